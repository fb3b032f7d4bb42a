"""Many viewers on one device: runs, their queue, their steering and their records.

    checks      limits, before anything is queued
    job         one run as data, and carrying it out
    record      the API call that gives a finished video again
    mailbox     steering a run from another process
    device      sharing one device between runs, chunk by chunk
    zero        the same interface where the device lives in a forked process (ZeroGPU)
    service     runs by id: start, steer, stop, extend; the log
    models      loaded pipelines by preset name

No web framework is known here.
"""

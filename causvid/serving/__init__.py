"""Many viewers on one device: runs, their queue, their steering and their records.

    settings    what an operator decides
    request     every parameter of a run
    record      what a run tells of itself: infos and the manifest
    limits      what may be asked for, checked before anything is queued
    models      loaded pipelines by preset name
    job         a run as data, and a job being carried out where the device is
    device      sharing one device between runs, chunk by chunk
    zero        the same interface where the device lives in a forked process (ZeroGPU)
    run         a run as its viewer's side sees it: events, steering, files
    process     the server's process: its temporary folder, and its end
    service     runs by id: start, steer, stop, extend; the log

A run has one name on each side: `Run` here, `Production` on the side of the device. A `Job` is
what crosses from one to the other, events are what comes back, and a `Ticket` steers and stops it.

No web framework is known here.
"""

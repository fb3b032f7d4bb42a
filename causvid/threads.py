"""How torch's threads wait for each other. To be imported before torch, which reads it once.

Threads that sleep at once cost a quarter of the speed of a small model; threads that spin on take
the cores from everyone else, and a chunk takes many times as long as soon as another process wants
them. So they spin for some microseconds, then sleep.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

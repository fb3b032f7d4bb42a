"""Clocks, and what they ran on.

Wall time is what a viewer waits; CPU time, of all threads of this process, is what remains
comparable on a machine that others use too.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import psutil
import torch

_Device = torch.device  # in `Hardware`, torch is a field


@dataclass(frozen=True)
class Hardware:
    """What a measurement ran on; it means nothing without."""

    device: str
    cores: int
    threads: int
    memory_bytes: int
    load: float | None  # average of the last minute, in busy cores; others' work included
    torch: str

    @classmethod
    def of(cls, device: _Device) -> "Hardware":
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            name, memory = properties.name, properties.total_memory
        else:
            name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
            memory = psutil.virtual_memory().total
        return cls(
            device=name,
            cores=os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            memory_bytes=memory,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            torch=torch.__version__,
        )

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load:.1f}"
        return (
            f"{self.device}, {self.memory_bytes / 2**30:.0f} GiB; {self.cores} cores, "
            f"{self.threads} threads{load}; torch {self.torch}"
        )


@dataclass(frozen=True)
class Seconds:
    """Repeated measurements of one thing."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.wall)

    @property
    def median_cpu(self) -> float:
        return median(self.cpu)

    @property
    def p95(self) -> float:
        return float(np.percentile(self.wall, 95))

    def to_dict(self) -> dict[str, float]:
        """The JSON form."""
        return {
            "median": self.median,
            "p95": self.p95,
            "median_cpu": self.median_cpu,
            "samples": len(self.wall),
        }


def measure(run: Callable[[], object], device: torch.device, *, repeats: int) -> Seconds:
    """Time something, after once for allocations and autotuning."""
    watches = [Stopwatch(device) for _ in range(1 + repeats)]
    for watch in watches:
        with watch:
            run()
    return Seconds(tuple(it.wall for it in watches[1:]), tuple(it.cpu for it in watches[1:]))


class Stopwatch:
    """Adds up the stretches in which it runs, as a context; waits for the device at their ends."""

    def __init__(self, device: torch.device):
        self._device = device
        self.wall = 0.0
        self.cpu = 0.0

    def __enter__(self) -> "Stopwatch":
        _finish(self._device)
        self._started = time.perf_counter(), time.process_time()
        return self

    @property
    def lap(self) -> float:
        """Wall time since it was started last."""
        return time.perf_counter() - self._started[0]

    def __exit__(self, *_) -> None:
        _finish(self._device)
        wall, cpu = self._started
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that CUDA tensors took so far, or what this process holds at present."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss

"""Measures the memory that one call needs in all: its inputs, its outputs and its temporaries.

By PyTorch's allocator, which on a GPU rounds each tensor up to 512 bytes. Memory that stays from call to call (cuBLAS's
workspace) is not counted, nor what a library takes from the driver or the system itself.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bench.printed import redirected

_ALLOCATION = "[memory]"  # the profiler's name for an event of the allocator


def measure_peak_bytes(run: Callable[[], object], set_bytes: int, device: torch.device) -> int:
    """Call `run`, which has run before, and return `set_bytes` (its input set, allocated already) plus the most bytes
    that were allocated on top while it ran. The result lives until the peak is read."""
    return set_bytes + (_on_cpu(run) if device.type == "cpu" else _on_gpu(run))


def _on_gpu(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return peak - before


def _on_cpu(run: Callable[[], object]) -> int:
    """PyTorch keeps no peak of a CPU's memory, so its profiler lists every tensor that is allocated and freed."""
    with redirected(Path(os.devnull)):  # the profiler prints when it starts and stops
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = run()
        with tempfile.TemporaryDirectory(prefix="napkin-bench-") as folder:
            file = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(file))
            events = json.loads(file.read_bytes())["traceEvents"]
    del result
    allocations = sorted((each["ts"], int(each["args"]["Bytes"])) for each in events if each["name"] == _ALLOCATION)
    return max(itertools.accumulate((nbytes for _, nbytes in allocations), initial=0))

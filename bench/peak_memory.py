"""Measures the device memory that one call needs in all: its inputs, its outputs and its temporaries.

By PyTorch's allocator, which rounds each tensor up to 512 bytes. Memory that stays from call to call (cuBLAS's
workspace) is not counted, nor what a library takes from the driver itself.
"""

from collections.abc import Callable

import torch


def measure_peak_bytes(run: Callable[[], object], set_bytes: int) -> int:
    """Call `run`, which has run before, and return `set_bytes` (its input set, allocated already) plus the most bytes
    that were allocated on top while it ran. The result lives until the peak is read."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return set_bytes + peak - before

"""How much device memory one call needs in all: its inputs, its outputs and whatever it sets aside while it runs.

PyTorch's allocator is asked, which rounds each tensor up to 512 bytes. Not counted is what stays from call to call and
so is there before (cuBLAS's workspace), and what a library takes from the driver by itself.
"""

from collections.abc import Callable

import torch


def measure_peak_bytes(run: Callable[[], object], set_bytes: int) -> int:
    """Call `run`, which has been called before, and return the most bytes that were allocated while it ran over those
    that were allocated when it began, and `set_bytes`: those of its input set, which were. What a call returns lives
    until the peak is read; an output that is given is among the inputs."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return set_bytes + peak - before

"""Whether a process can run another job after an error: most errors leave its CUDA context intact."""

import gc

import torch


class PoisonsProcess(RuntimeError):
    """Base of errors after which the process must not run another job, even if its context still works."""


def can_run_another(device: str) -> bool:
    """Free the memory of a failed job, and say whether the device still works in this process.

    Call it when the error is gone: the frames of its traceback hold the job's tensors.
    """
    gc.collect()  # frames and tensors in reference cycles
    if device == "cpu":
        return True
    # An error that was not fetched yet is reported once, by the next call; one that sticks, by every call.
    return _works() or _works()


def _works() -> bool:
    """Whether the device computes, and the stream is the one that jobs expect."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError:  # also torch.OutOfMemoryError: a new process has more room
        return False
    # A failed capture may leave its own stream current; the timer expects the default one.
    return bool(torch.cuda.current_stream() == torch.cuda.default_stream())

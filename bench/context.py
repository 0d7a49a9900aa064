"""Whether a process can run another job after one that raised: most errors leave its CUDA context as it was."""

import gc

import torch


class PoisonsProcess(RuntimeError):
    """Base of errors after which the process that raised them must not run another job, whatever its context says."""


def can_run_another(device: str) -> bool:
    """Free what a failed job has left, and say whether the device still works in this process.

    Call it where the error is no longer held: the frames of its traceback hold the job's tensors.
    """
    gc.collect()  # frames and tensors that refer to each other
    if device == "cpu":
        return True
    # An error that nobody fetched is reported once, by the next call. One that sticks is reported by every call.
    return _works() or _works()


def _works() -> bool:
    """Whether the device does what it is told, on the stream that jobs expect."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError:  # also torch.OutOfMemoryError: where not one number fits, a new process has more room
        return False
    # A capture that failed may leave its own stream behind, which later jobs would be timed beside.
    return bool(torch.cuda.current_stream() == torch.cuda.default_stream())

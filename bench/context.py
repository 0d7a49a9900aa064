"""Whether a process can run another job: most errors leave its CUDA context intact, and most functions its settings."""

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


def torch_settings() -> tuple[object, ...]:
    """What a user's function may have set for all that runs after it in this process, such as fewer threads."""
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.backends.cuda.matmul.fp32_precision,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    )

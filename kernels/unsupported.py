"""The error with which an implementation declines work."""

import torch


class Unsupported(ValueError):
    """An implementation does not take this dtype, shape or device; the message names what it takes."""


def check_capability(what: str, needed: tuple[int, int], below: tuple[int, int] | None = None) -> None:
    """Raise Unsupported unless the compute capability of the current device is `needed` or later, and before
    `below`."""
    here = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if here is None or here < needed or (below is not None and here >= below):
        found = f"compute capability {here[0]}.{here[1]}" if here else "no CUDA device"
        limit = f" to below {below[0]}.{below[1]}" if below else " and later"
        raise Unsupported(f"{what} does not run on {found}; supported: {needed[0]}.{needed[1]}{limit}")

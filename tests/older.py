"""What an older torch, with which the code runs too, cannot do: such tests are skipped with its own words, and counted.

The torch that `pyproject.toml` asks for can do all of it, so that nothing is ever skipped there.
"""

import pytest
import torch

from kernels.pytorch import eager
from kernels.unsupported import Unsupported

ASKED_FOR = (2, 13)


def need_fp8_on_a_cpu() -> None:
    """Skip the test where PyTorch has no fp8 with a scale for each row on a CPU."""
    a, b = torch.ones(2, 2), torch.ones(2, 2).t()
    try:
        eager.matmul_scaled(*(each.to(torch.float8_e4m3fn) for each in (a, b)), torch.ones(2), torch.ones(2))
    except Unsupported as error:
        if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= ASKED_FOR:
            raise
        pytest.skip(str(error))

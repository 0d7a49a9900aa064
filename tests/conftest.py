"""What all tests share: Triton's interpreter where there is no GPU, and one hook that skips and counts `gpu` tests."""

import os

import pytest
import torch

HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    # Must stand before any kernel module is imported: Triton decides at decoration time.
    os.environ["TRITON_INTERPRET"] = "1"

_SKIPPED_GPU_TESTS = pytest.StashKey[int]()


@pytest.fixture
def device() -> torch.device:
    """Where kernels run: a real GPU, or the CPU through Triton's interpreter."""
    return torch.device("cuda" if HAS_CUDA else "cpu")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    config.stash[_SKIPPED_GPU_TESTS] = 0 if HAS_CUDA else len(gpu_items)
    if not HAS_CUDA:
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash.get(_SKIPPED_GPU_TESTS, 0)
    if skipped:
        terminalreporter.write_line(
            f"{skipped} gpu tests skipped: no CUDA device. Run them with `pytest -m gpu` on one."
        )

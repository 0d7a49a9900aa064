"""Optional packages: which are installed, and their versions."""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from types import MappingProxyType

# Optional packages, each with a module that shows that it is installed.
OPTIONAL: Mapping[str, str] = MappingProxyType(
    {
        "liger-kernel": "liger_kernel",
        "quack-kernels": "quack",
        "flash-attn": "flash_attn_2_cuda",  # version 4 has a flash_attn without these kernels
        "flash-attn-3": "flash_attn_interface",
        "flashinfer-python": "flashinfer",
    }
)


def is_installed(package: str) -> bool:
    """Whether a package of OPTIONAL is installed."""
    return importlib.util.find_spec(OPTIONAL[package]) is not None


def package_version(package: str) -> str | None:
    """The version of a package, or None where it has no metadata here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def optional_versions() -> dict[str, str]:
    """The versions of the packages of OPTIONAL that are installed."""
    return {package: package_version(package) or "unknown" for package in OPTIONAL if is_installed(package)}

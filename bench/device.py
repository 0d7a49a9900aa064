"""Finds torch's GPU 0 in NVML: the two libraries count and name GPUs differently."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from bench import nvml
from predict.errors import BadRun

_PREFIXES = ("GPU-", "MIG-")
_SLICE = " MIG "  # in a name, as in "NVIDIA H100 80GB HBM3 MIG 1g.10gb"


@dataclass(frozen=True, slots=True)
class Device:
    """The GPU that torch calls device 0, as torch and NVML know it."""

    properties: Any  # torch's
    handle: Any  # NVML's; None if NVML does not find it
    name: str | None
    is_slice: bool  # a MIG slice, not a card

    def number(self, name: str) -> int | None:
        """One of torch's properties; older versions lack some, and 0 means unknown."""
        value = getattr(self.properties, name, None)
        return value if isinstance(value, int) and value > 0 else None

    @property
    def sm(self) -> int | None:
        """Compute capability x 10, as in 90."""
        major, minor = self.number("major"), getattr(self.properties, "minor", None)
        return major * 10 + minor if major is not None and isinstance(minor, int) else None

    @property
    def card_name(self) -> str:
        """Name of the card, or of the card that this is a slice of."""
        name = nvml.name(nvml.card_of(self.handle)) or self.name or "a GPU of unknown name"
        return name.partition(_SLICE)[0]

    @property
    def memory_bytes(self) -> int | None:
        """All memory as NVML counts it, like the table; else as torch does, without what the driver keeps. NVML does
        not count memory shared with the CPU, and for a slice it may give the whole card's."""
        counted = None if self.is_slice else nvml.memory_bytes(self.handle)
        return counted or self.number("total_memory")


def shares_memory() -> bool | None:
    """Whether the GPU uses the CPU's memory; None if torch does not report it."""
    try:
        integrated = getattr(find_device().properties, "is_integrated", None)
    except BadRun:
        return None
    return bool(integrated) if isinstance(integrated, int) else None


def visible_gpus() -> int | None:
    """How many GPUs torch sees (the first is measured); None if it does not report them."""
    try:
        return int(torch.cuda.device_count())
    except Exception:  # noqa: BLE001 - only for information
        return None


def ask_torch() -> tuple[bool, str | None]:
    """Whether torch sees a GPU, and its objection to using it, such as the version of a driver that is too old. The
    properties are read too: a broken card shows there first, and they make no CUDA context, which a process that only
    starts a worker must not hold."""
    available = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            available = bool(torch.cuda.is_available())
            if available:
                torch.cuda.get_device_properties(0)
        except Exception as error:  # noqa: BLE001 - whatever torch raises, it cannot use the GPU
            return available, _first_line(error)
    return available, _first_line(caught[0].message) if caught and not available else None


def find_device() -> Device:
    """Find torch's device 0 in NVML. Raises BadRun if torch cannot use it."""
    try:
        properties = torch.cuda.get_device_properties(0)
    except Exception as error:
        raise BadRun(f"torch cannot use the GPU: {_first_line(error)}; fix that, or give --gpu cpu") from error
    nvml.start()
    uuids = _uuids(properties)
    handle, found_as_slice = _find_handle(properties, uuids)
    names = [name for name in (nvml.name(handle), getattr(properties, "name", None)) if isinstance(name, str) and name]
    slice_names = [name for name in names if _SLICE in name]
    return Device(
        properties,
        handle,
        name=next(iter(slice_names or names), None),
        is_slice=found_as_slice or bool(slice_names or nvml.is_slice(handle) or nvml.mig(handle)),
    )


def nvml_handle() -> Any:
    """NVML's handle of torch's device 0, or None."""
    try:
        return find_device().handle
    except BadRun:
        return None


def _uuids(properties: Any) -> list[str]:
    """What NVML may call torch's device 0. Torch omits the prefix, which tells a card from a slice; the first of
    CUDA_VISIBLE_DEVICES is the same device."""
    uuid = str(getattr(properties, "uuid", None) or "")
    names = [uuid] if uuid.startswith(_PREFIXES) else [f"GPU-{uuid}", f"MIG-{uuid}", uuid]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    return [*(names if uuid else []), *([visible] if visible.startswith(_PREFIXES) else [])]


def _find_handle(properties: Any, uuids: list[str]) -> tuple[Any, bool]:
    """NVML's handle, and whether it is known to be a slice's. Not by number: NVML counts every GPU, torch those of
    CUDA_VISIBLE_DEVICES, in another order."""
    for uuid in uuids:
        handle = nvml.handle_by_uuid(uuid)
        if handle is not None:
            return handle, uuid.startswith("MIG-")
    known_slice = bool(uuids) and all(uuid.startswith("MIG-") for uuid in uuids)
    domain, bus, slot = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    if isinstance(domain, int) and isinstance(bus, int) and isinstance(slot, int):
        handle = nvml.handle_by_bus_id(f"{domain:08x}:{bus:02x}:{slot:02x}.0")
        if handle is not None:
            return handle, known_slice
    handle, called = nvml.only_handle(), getattr(properties, "name", None)
    same = called is None or str(called).startswith(nvml.name(handle) or "")
    return (handle if same else None), known_slice


def _first_line(problem: object) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]

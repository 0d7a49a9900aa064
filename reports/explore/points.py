from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Stub."""

    name: str

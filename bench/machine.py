"""Whether two environments are the same machine and software: only then do their records belong together."""

from bench.record import Environment

_ALIKE = ("gpu", "device", "sm_count", "torch", "triton", "driver", "warm_cache")
_NOT_ALWAYS_TOLD = frozenset({"driver", "sm_count"})  # None contradicts nothing


def difference(there: Environment, here: Environment) -> str | None:
    """How `there` differs from `here`, as the end of "records of ..."; None if they are alike."""
    if there.name != here.name:
        return f"{there.name}, this is {here.name}"
    for name in _ALIKE:
        theirs, ours = getattr(there, name), getattr(here, name)
        if name in _NOT_ALWAYS_TOLD and None in (theirs, ours):
            continue
        if theirs != ours:
            return f"{there.name}, whose {name} is {theirs}, not {ours}"
    return None

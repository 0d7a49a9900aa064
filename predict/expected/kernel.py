"""Expected time of one kernel: the time model of its op, with constants calibrated on a few measured rows."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from predict.expected.attention_decode import DECODE
from predict.expected.attention_prefill import PREFILL
from predict.expected.collective import COLLECTIVE_MODELS
from predict.expected.experts import MOE_LAYER
from predict.expected.latent import LATENT_MODELS
from predict.expected.matmul import MATMUL
from predict.expected.time_model import Calibration, Machine, Terms, TimeModel
from predict.table import Column, Table
from predict.terminal import PLAIN_WIDTH, wrapped
from predict.units import Formats, Unit

TIME_MODELS: Mapping[str, TimeModel] = MappingProxyType(
    {model.op: model for model in (MATMUL, PREFILL, DECODE, *LATENT_MODELS, MOE_LAYER, *COLLECTIVE_MODELS)}
)

INDENT = "    "
CONSTANT_COLUMNS = (
    Column("constant", "constant", is_key=True),
    Column("value", "value", Unit.PLAIN),
    Column("unit", "unit"),
    Column("meaning", "meaning"),
)


def expect(dims: Mapping[str, ArrayLike], machine: Machine, formats: Formats, calibration: Calibration) -> Terms:
    """Expected time and terms of each row. `dims` holds numbers or arrays; without `window` there is no window,
    without `skew` experts are loaded evenly, without `matrices` they have a gate."""
    model = TIME_MODELS[calibration.op]
    given = {"window": 0, "skew": 0, "matrices": 3, **dims}
    names = (*model.dims, *(name for name in model.conditions if name in dims))
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(given[name], dtype=np.float64)) for name in names))
    rows = dict(zip(names, arrays, strict=True))
    # Kernels measured in other formats told nothing of what only these need.
    constants = {**model.priors(), **calibration.constants}
    return model.terms(rows, machine, formats, constants, calibration.switches)


def explain_calibration(calibration: Calibration, formats: Formats, width: int = PLAIN_WIDTH) -> str:
    """The source of a calibration and `calibration_table`, at most `width` columns wide."""
    said = f"calibrated from {calibration.probes} measured rows: {calibration.source}"
    table = calibration_table(calibration, formats).text(width - len(INDENT))
    return "\n".join([*wrapped(said, width), *(f"{INDENT}{line}".rstrip() for line in table.splitlines())])


def calibration_table(calibration: Calibration, formats: Formats) -> Table:
    """The constants of a calibration that `formats` use, with units and meanings, and its switches."""
    model = TIME_MODELS[calibration.op]
    rows: list[dict[str, object]] = [
        {
            "constant": name,
            "value": calibration.constants[name],
            "unit": model.constants[name].unit,
            "meaning": model.constants[name].meaning,
        }
        for name in model.fitted(formats)
        if name in calibration.constants
    ]
    rows += [
        {"constant": name, "value": calibration.switches[name], "meaning": switch.meaning}
        for name, switch in model.switches.items()
    ]
    return Table(CONSTANT_COLUMNS, tuple(rows))

"""Refines expected time on a GPU with probes: constants and residual of a relative, where the probes confirm them.

The probes are fitted twice: by the form with its own priors, and by the form times the relative's residual, with the
relative's constants as priors that are known better. The second stands if its cost, priors included, is the lower one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from predict.expected.calibrations import Basis, Known
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.units import Formats
from predict.workloads import FloatArray
from reports.calibration.fit import Positions, fit_constants

RELATED = 0.3  # spread of a constant around a relative's, as a share of its spread around the prior of all GPUs


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured shapes of one kernel family on one GPU."""

    op: str
    columns: Mapping[str, FloatArray]  # the op's dimensions
    time_s: FloatArray
    machine: Machine
    formats: Formats

    def at(self, positions: Positions) -> "Sample":
        """Some of the shapes."""
        columns = {name: column[positions] for name, column in self.columns.items()}
        return replace(self, columns=columns, time_s=self.time_s[positions])

    def expected_s(self, calibration: Calibration) -> FloatArray:
        """Expected times of all shapes."""
        return expect(self.columns, self.machine, self.formats, calibration).time_s

    def refined_s(self, calibration: Calibration, known: Known) -> FloatArray:
        """Refined times of all shapes, by the constants of `calibration` and the residual of `known`."""
        factor = known.factor(self.columns)
        return self.expected_s(calibration) * (1.0 if factor is None else factor)


def refined_calibration(probes: Sample, plain: Calibration, known: Known) -> Calibration | None:
    """Constants of `known`, fitted to the probes together with its residual; None if the probes do not confirm it, or
    it has none, or is of another architecture. `plain` are the constants that the probes alone give."""
    factor = known.factor(probes.columns)
    if factor is None or known.basis is Basis.OTHER:
        return None
    model, carried = TIME_MODELS[probes.op], known.calibration
    near = {
        name: replace(each, prior=carried.constants.get(name, each.prior), spread=RELATED * each.spread)
        for name, each in model.constants.items()
    }
    related = replace(model, constants=near)
    where = (probes.machine, probes.formats)
    alone = fit_constants(model, probes.columns, probes.time_s, *where, plain.switches, plain.source)
    source = f"{plain.source}, and {carried.source}"
    joined = fit_constants(related, probes.columns, probes.time_s / factor, *where, carried.switches, source)
    return joined.calibration if joined.cost < alone.cost else None

"""The measured roofs of this machine, found in this process: each probe runs once, when its roof is first needed."""

import torch

from bench.ceilings import measured_roofs
from bench.judgment import datasheet_roofs, judge, make_record
from bench.lab import Job, Settings, make_lab
from bench.record import Environment, Record, RoofSet
from bench.runner import limits_of, roof_probe_jobs
from bench.sampling import Budget
from predict.resources import Roofs
from predict.workloads import Amounts

PROBE_BUDGET = Budget(time_s=0.1, warmup_s=0.025)
_KNOWN: dict[tuple[str, str, str, int], Record] = {}  # what this process has measured


def probe_roofs(amounts: Amounts, here: Environment) -> Roofs:
    """The measured roofs that predicting these amounts takes. Measuring them takes some seconds, once."""
    jobs = [job for job in roof_probe_jobs(limits_of(here, {})) if not job.warm and _is_needed(job, amounts)]
    return measured_roofs([_probe(job, here) for job in jobs])


def _is_needed(job: Job, amounts: Amounts) -> bool:
    probed = job.workload.amounts
    streams = job.workload.op.startswith("stream_") or job.workload.dims.get("m") == 1
    if streams:
        return bool(amounts.bytes)
    return any(amounts.flop_by_unit.get(unit) for unit in probed.flop_by_unit)


def _probe(job: Job, here: Environment) -> Record:
    """The record of one probe."""
    key = (job.workload.id, job.implementation, here.device, torch.get_num_threads())  # other threads, other roofs
    if key not in _KNOWN:
        lab = make_lab(Settings(here.device, None, force=False, warm_cache=False, budget=PROBE_BUDGET))
        outcome = judge(job.workload, lab.run(job), here)
        roofs = RoofSet(datasheet_roofs(here), {})
        _KNOWN[key] = make_record(job.workload, job.implementation, outcome, roofs, lab.environment)
    return _KNOWN[key]

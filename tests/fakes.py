"""A timer, a clock and benches without a device, so that the whole experiment runs in tests."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bench.context import PoisonsProcess
from bench.env import GpuState
from bench.lab import Job, Lab, Outcome, Settings, make_lab
from bench.record import Environment
from bench.sampling import Observe, Sampler
from bench.timer import CaptureFailed, Preparation
from bench.worker import attempt
from tests.factories import make_environment


class FakeClock:
    """Time that passes only when something says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeSampler:
    """Plays a script of times, the last one forever, and lets the clock run by them."""

    script_s: Sequence[float]
    clock: FakeClock = field(default_factory=FakeClock)
    method: str = "cuda_event"
    launches_per_sample: int = 1
    cold_l2: bool | None = True
    held: bool | None = True
    host_s: float | None = 20e-6
    together: int = 1  # samples that are taken at a time
    taken: int = 0

    def sample(self, observe: Observe) -> tuple[float, ...]:
        times_s = []
        for _ in range(self.together):
            times_s.append(self.script_s[min(self.taken, len(self.script_s) - 1)])
            self.taken += 1
        observe()
        self.clock.now_s += sum(times_s)
        return tuple(times_s)


@dataclass
class FakeTimer:
    """Runs each case once, as a real timer does, and then says that it took `time_s`."""

    time_s: float = 1e-3
    preparations: list[Preparation] = field(default_factory=list)

    def prepare(self, preparation: Preparation) -> Sampler:
        self.preparations.append(preparation)
        preparation.bind(0)()
        return FakeSampler([self.time_s])


class FakeMonitor:
    """A card that is always in the same state."""

    def __init__(self, *throttle: str) -> None:
        self.state = GpuState(sm_hz=1.5e9, power_w=500.0, temperature_c=50.0, throttle=throttle)

    def __call__(self) -> GpuState:
        return self.state


class InProcessBench:
    """Runs jobs in this process."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.environment = lab.environment

    def run(self, job: Job) -> Outcome:
        return attempt(self._lab, job)

    def close(self) -> None:
        self._lab.forget()


class FakeBench:
    """Answers every job with what `answer` says, without running anything."""

    def __init__(self, answer, environment: Environment | None = None) -> None:
        self.answer = answer
        self.environment = environment or make_environment()
        self.jobs: list[Job] = []

    def run(self, job: Job) -> Outcome:
        self.jobs.append(job)
        return self.answer(job)

    def close(self) -> None:
        pass


def cpu_environment(**changes) -> Environment:
    return make_environment(
        device="cpu", name="Fake CPU", gpu=None, sm=None, sm_count=None, driver=None, cuda=None, memory_bytes=2**34,
        last_level_cache_bytes=2**20, threads=torch.get_num_threads(), power_limit_w=None, max_sm_hz=None, ecc=None,
        mig=None, **changes,
    )  # fmt: skip


class FaultyLab(Lab):
    """Misbehaves as the name of the implementation says: what a real kernel does to a real worker."""

    def run(self, job: Job) -> Outcome:
        match job.implementation:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exits":
                os._exit(3)
            case "hangs":
                time.sleep(600)
            case "torch" if job.workload.op == "stream_copy" and job.not_captured is None:
                raise CaptureFailed("not captured in a CUDA graph: operation not permitted")
            case "raises":
                raise RuntimeError("CUDA error: an illegal memory access\nsecond line")
            case "poisons":
                raise PoisonsProcess("a capture was left behind")
        return super().run(job)


def make_faulty_lab(settings: Settings) -> Lab:
    """For a worker process: must be importable there."""
    return FaultyLab(cpu_environment(), FakeTimer(), settings.budget, monitor=None)


def make_lab_of_a_small_cache(settings: Settings) -> Lab:
    """The real lab of this machine but for the size of its cache: streams of four times a large one take minutes."""
    lab = make_lab(settings)
    lab.environment = replace(lab.environment, last_level_cache_bytes=2**20)
    return lab


def make_lab_that_counts(starts: Path, settings: Settings) -> Lab:
    """For workers that are replaced: each start is a second later."""
    with starts.open("a", encoding="ascii") as file:
        file.write("x")
    environment = cpu_environment(utc=f"2026-01-01T00:00:{starts.stat().st_size:02}+00:00")
    return FaultyLab(environment, FakeTimer(), settings.budget, monitor=None)

import pytest

from bench.env import GpuState
from bench.sampling import MONITOR_PERIOD_S, POWER_LAG_S, Budget, sample_until_known
from tests.fakes import FakeClock, FakeMonitor, FakeSampler


def run(script_s, budget, monitor=None):
    sampler = FakeSampler(script_s, FakeClock())
    return sample_until_known(sampler, budget, clock=sampler.clock, monitor=monitor), sampler


def test_steady_times_stop_as_soon_as_there_are_enough():
    measurement, sampler = run([1e-3], Budget(time_s=1.0, warmup_s=0.2, min_samples=10))
    assert measurement.stop == "converged"
    assert measurement.times_s == (1e-3,) * 10
    # Two groups of three agree: six warm-up samples, then ten that count.
    assert sampler.taken == 16


def test_the_cold_start_is_not_among_the_samples():
    script = [9e-3, 5e-3, 3e-3, 2e-3, 1e-3]
    measurement, _ = run(script, Budget(time_s=1.0, warmup_s=10.0))
    assert max(measurement.times_s) == 1e-3


def test_warming_up_ends_with_its_time_even_if_times_still_fall():
    script = [1.0 / (i + 1) for i in range(1000)]
    measurement, sampler = run(script, Budget(time_s=0.01, warmup_s=1.5, min_samples=3, max_samples=5))
    # 1 + 1/2 = 1.5 s: two samples.
    assert sampler.taken - len(measurement.times_s) == 2


def test_noise_goes_on_until_the_budget_and_says_so():
    script = [1e-3, 2e-3] * 5000
    measurement, _ = run(script, Budget(time_s=0.3, warmup_s=0.0, max_samples=10_000))
    assert measurement.stop == "budget"
    # 1.5 ms on average in 0.3 s: 200 samples.
    assert 195 <= len(measurement.times_s) <= 205


def test_samples_longer_than_the_budget_are_as_many_as_an_interval_needs():
    measurement, _ = run([10.0], Budget(time_s=0.1, warmup_s=0.1))
    assert measurement.times_s == (10.0,) * 6
    assert measurement.stop == "budget"


def test_the_number_of_samples_is_bounded():
    measurement, _ = run([1e-6, 3e-6] * 500, Budget(time_s=100.0, warmup_s=0.0, max_samples=50))
    assert len(measurement.times_s) == 50


def test_outliers_stay_in():
    measurement, _ = run([1e-3] * 8 + [1.0] + [1e-3], Budget(time_s=5.0, warmup_s=0.002, min_samples=10))
    assert 1.0 in measurement.times_s


def test_a_case_is_sampled_for_as_long_as_is_asked_even_if_its_median_is_known():
    measurement, _ = run([2e-3], Budget(time_s=0.1, warmup_s=0.0, min_time_s=0.3))
    assert (measurement.stop, len(measurement.times_s)) == ("converged", 150)


def test_samples_that_were_queued_together_are_all_kept():
    sampler = FakeSampler([1e-3], FakeClock(), together=4)
    measurement = sample_until_known(sampler, Budget(time_s=1.0, warmup_s=0.0, min_samples=10), clock=sampler.clock)
    assert len(measurement.times_s) == 12  # the third four make it more than ten


def test_the_state_of_the_card_is_read_while_sampling():
    measurement, _ = run([1e-3], Budget(min_time_s=2 * POWER_LAG_S), FakeMonitor("sw_power_cap"))
    assert (measurement.sm_hz, measurement.power_w, measurement.temperature_c) == (1.5e9, 500.0, 50.0)
    assert measurement.throttle == ("sw_power_cap",)


def test_the_card_is_not_asked_more_often_than_it_can_tell():
    class Counting(FakeMonitor):
        reads = 0

        def __call__(self):
            self.reads += 1
            return super().__call__()

    monitor = Counting()
    measurement, _ = run([1e-3, 2e-3] * 200, Budget(time_s=0.3, warmup_s=0.0), monitor)
    assert 0.5 * sum(measurement.times_s) / MONITOR_PERIOD_S <= monitor.reads <= sum(measurement.times_s) / 0.02 + 1


def test_without_a_monitor_nothing_is_made_up():
    measurement, _ = run([1e-3], Budget())
    assert (measurement.sm_hz, measurement.power_w, measurement.temperature_c, measurement.throttle) == (None,) * 4
    assert (measurement.sm_hz_samples, measurement.power_w_samples, measurement.energy_j) == ((), (), None)


class FallingClock:
    """A card that heats up: 10 MHz and 10 W less, and one degree more, with each reading."""

    def __init__(self):
        self.reads = 0

    def __call__(self):
        self.reads += 1
        return GpuState(2e9 - 1e7 * self.reads, 700.0 - 10 * self.reads, 40.0 + self.reads, ())


def test_clock_and_power_are_kept_for_each_sample():
    # No warm-up but its first sample; one reading a sample, since 30 ms are longer than the meter's period.
    measurement, _ = run([30e-3], Budget(time_s=1.0, warmup_s=0.0, min_samples=5, min_time_s=0.15), FallingClock())
    assert measurement.sm_hz_samples == (1.98e9, 1.97e9, 1.96e9, 1.95e9, 1.94e9)
    assert measurement.sm_hz == 1.96e9
    assert measurement.temperature_c == 46.0
    # Read at 30, 60 and 90 ms, the meter still showed what ran before; at 120 and 150 ms this.
    assert measurement.power_w_samples == (None, None, None, 650.0, 640.0)
    assert measurement.power_w == 645.0
    assert measurement.energy_j == pytest.approx(645.0 * 30e-3)


def test_what_the_driver_does_not_tell_is_absent_and_stops_nothing():
    class Silent:
        def __call__(self):
            return GpuState(None, None, None, None)

    measurement, _ = run([1e-3], Budget(min_time_s=0.2), Silent())
    assert (measurement.sm_hz, measurement.power_w, measurement.temperature_c, measurement.throttle) == (None,) * 4
    assert set(measurement.sm_hz_samples) == {None}
    assert len(measurement.sm_hz_samples) == len(measurement.times_s)


@pytest.mark.parametrize("cold", [True, False, None])
def test_the_record_says_how_the_samples_were_taken(cold):
    sampler = FakeSampler([1e-3], method="cuda_graph", launches_per_sample=40, cold_l2=cold)
    measurement = sample_until_known(sampler, Budget(), clock=sampler.clock)
    assert (measurement.method, measurement.launches_per_sample, measurement.cold_l2) == ("cuda_graph", 40, cold)
    assert (measurement.held, measurement.host_s) == (True, 20e-6)

"""The experiment: cases, timers, measurement, records and the runner."""

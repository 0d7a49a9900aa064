"""The progress bar on stderr: the case that runs, how many are done, the time left."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench import runner
from bench.lab import Job, Outcome
from bench.record import Status


class ProgressBar(runner.Progress):
    """Shows the run; a failed case leaves a line with its reason."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._job: Job | None = None

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def phase(self, name: str, jobs: int) -> None:
        """Start the bar of a phase."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=jobs, phase=name)

    def begin(self, job: Job) -> None:
        """Show the name of the case."""
        self._job = job
        if self._task is not None:
            self._bar.update(self._task, description=f"{job.workload.id} {job.implementation}")

    def end(self, outcome: Outcome) -> None:
        """Count the case; print its reason if it failed."""
        if self._task is not None:
            self._bar.advance(self._task)
        if outcome.status not in (Status.MEASURED, Status.SKIPPED) and self._job is not None:
            name = f"{self._job.workload.id} {self._job.implementation}"
            self._console.print(f"{outcome.status}: {name}: {outcome.reason}", markup=False, highlight=False)

"""What is compared: runs and tables, told apart by what they are, each a side with a name of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from predict.errors import BadRecord, BadRun
from reports.accuracy.importers import MeasuredTables, read_tables, table_names
from reports.run.frame import machine_name
from reports.run.load import Run, load_records


@dataclass(frozen=True)
class Side:
    """A machine as one run, or as tables, measured it."""

    name: str  # in columns: the machine, or of several sides of one machine the folder or the table
    machine: str
    source: Run | MeasuredTables
    what: str  # which files: run runs/h100

    @property
    def run(self) -> Run | None:
        """The run, where it is one."""
        return self.source if isinstance(self.source, Run) else None

    @property
    def has_datasheet(self) -> bool:
        """Whether its shares are of datasheet roofs; those of a CPU are of measured ones."""
        return self.run is None or bool(self.run.roofs.datasheet)


def is_run(path: Path) -> bool:
    """Whether a path is a run: a folder, or its records. All other files are tables."""
    return path.is_dir() or path.suffix == ".jsonl"


def read_sides(paths: Sequence[Path], *, skip_broken: bool = False) -> tuple[Side, ...]:
    """The sides of the files, in their order: each run is one, and so are all tables of one GPU. Where nothing but
    tables of one GPU is given, each table is one. A run may be given twice: against itself nothing changes.

    Raises BadRun for a table that is given twice, BadRecord for a file that is none, has no usable row or holds records
    of several machines, UnknownGpu for a table of a GPU that is not in the GPU table.
    """
    _check_paths(paths)
    runs = [(path, _read_run(path, skip_broken=skip_broken)) for path in paths if is_run(path)]
    found = _sides_of_tables([path for path in paths if not is_run(path)], alone=not runs)
    names = _run_names(runs, [side.machine for side, _ in found])
    sides = [(Side(name, run.machine, run, f"run {path}"), path) for name, (path, run) in zip(names, runs, strict=True)]
    ordered = sorted([*sides, *found], key=lambda each: list(paths).index(each[1]))
    return tuple(side for side, _ in ordered)


def refuse_runs(paths: Sequence[Path]) -> None:
    """Raise BadRun if one of the paths is a run, where all of them are to be tables."""
    for path in paths:
        if is_run(path):
            raise BadRun(f"{path} is a run, and --tables takes tables alone; leave --tables out")


def _check_paths(paths: Sequence[Path]) -> None:
    """Raise BadRun for a table that is given twice, BadRecord for a path that leads nowhere."""
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise BadRecord(f"{path}: no such file or folder; give runs that `python -m bench run` wrote, or tables")
        if path.resolve() in seen and not is_run(path):
            raise BadRun(f"{path} is given twice; a comparison takes each table once")
        seen.add(path.resolve())


def _read_run(path: Path, *, skip_broken: bool) -> Run:
    """A run of one machine that measured something."""
    run = load_records(path, skip_broken=skip_broken)
    if len(machines := dict.fromkeys(map(machine_name, run.environments))) > 1:
        raise BadRecord(
            f"{path}: its records are of several machines ({', '.join(machines)}); measure each into a folder of its"
            " own"
        )
    if not (run.frame["status"] == "measured").any():
        raise BadRecord(f"{path}: no measured row; `python -m reports show {path}` says what went wrong")
    return run


def _sides_of_tables(paths: Sequence[Path], *, alone: bool) -> list[tuple[Side, Path]]:
    """The sides of tables, each with the first file of it."""
    if not paths:
        return []
    measured = read_tables(paths)
    frame = measured.frame
    path_of = dict(zip(table_names(paths), paths, strict=True))
    for table, path in path_of.items():
        if not (frame["table"] == table).any():
            why = "; ".join(reason for (name, reason) in measured.dropped if name == table)
            raise BadRecord(f"{path}: no usable row ({why or 'it is empty'})")
    by = "table" if alone and frame["gpu"].nunique() == 1 else "gpu"
    found = []
    for name in frame[by].unique():
        rows = frame[frame[by] == name]
        tables = [str(each) for each in rows["table"].unique()]
        dropped = {key: count for key, count in measured.dropped.items() if key[0] in tables}
        source = MeasuredTables(rows.reset_index(drop=True), MappingProxyType(dropped))
        what = f"{'table' if len(tables) == 1 else 'tables'} {', '.join(tables)}"
        found.append((Side(str(name), str(rows["gpu"].iloc[0]), source, what), path_of[tables[0]]))
    return found


def _run_names(runs: Sequence[tuple[Path, Run]], others: Sequence[str]) -> list[str]:
    """The name of each run: its machine; where another side is of that machine too (`others` are those of tables) its
    folder, else its path, else its path and which of these it is."""
    machines = [*(run.machine for _, run in runs), *others]
    folders = [(path if path.is_dir() else path.parent).resolve().name for path, _ in runs]
    names = [
        run.machine if machines.count(run.machine) == 1 else folder
        for folder, (_, run) in zip(folders, runs, strict=True)
    ]
    taken = [*names, *others]
    names = [name if taken.count(name) == 1 else str(path) for name, (path, _) in zip(names, runs, strict=True)]
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)]

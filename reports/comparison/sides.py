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
    tables of one GPU is given, each table is one.

    Raises BadRun for a path that is given twice, BadRecord for a file that is none, has no usable row or holds records
    of several machines, UnknownGpu for a table of a GPU that is not in the GPU table.
    """
    _check_paths(paths)
    runs = {path: _read_run(path, skip_broken=skip_broken) for path in paths if is_run(path)}
    found = _sides_of_tables([path for path in paths if not is_run(path)], alone=not runs)
    machines = [*(run.machine for run in runs.values()), *(side.machine for side, _ in found)]
    names = _run_names(runs, machines)
    sides = [(Side(names[path], run.machine, run, f"run {path}"), path) for path, run in runs.items()]
    ordered = sorted([*sides, *found], key=lambda each: list(paths).index(each[1]))
    return tuple(side for side, _ in ordered)


def _check_paths(paths: Sequence[Path]) -> None:
    """Raise BadRun for a path that is given twice, BadRecord for one that leads nowhere; a run's folder and its records
    are the same."""
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise BadRecord(f"{path}: no such file or folder; give runs that `python -m bench run` wrote, or tables")
        place = path.resolve()
        place = place.parent if is_run(path) and not path.is_dir() else place
        if place in seen:
            raise BadRun(f"{path} is given twice; a comparison takes each run and table once")
        seen.add(place)


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


def _run_names(runs: dict[Path, Run], machines: Sequence[str]) -> dict[Path, str]:
    """The name of each run: its machine; where another side is of that machine too its folder, else its path."""
    folders = {path: (path if path.is_dir() else path.parent).resolve().name for path in runs}
    names = {path: run.machine if machines.count(run.machine) == 1 else folders[path] for path, run in runs.items()}
    taken = [*names.values(), *(machine for machine in machines if machine not in names.values())]
    return {path: name if taken.count(name) == 1 else str(path) for path, name in names.items()}

"""`napkin-bench`, and `python -m napkin_bench` where it is not installed."""

import os
import sys

from napkin_bench.packages import require_ours


def main() -> None:
    """The console script. What it starts in processes of their own looks for no module in the current folder either,
    where a user's json.py may lie."""
    os.environ["PYTHONSAFEPATH"] = "1"
    _run("napkin-bench", completes=True)


def _run(prog_name: str, *, completes: bool) -> None:
    require_ours()
    from shellingham import ShellDetectionFailure  # noqa: PLC0415 - all below only once the packages are ours

    from napkin_bench.commands import make_app  # noqa: PLC0415
    from predict.command_line import run_command_line  # noqa: PLC0415

    try:
        run_command_line(make_app(completes=completes), prog_name)
    except ShellDetectionFailure:
        sys.stderr.write("error: the shell that asks is not known: ask for completion in bash, zsh or fish itself\n")
        sys.exit(2)


if __name__ == "__main__":
    _run("python -m napkin_bench", completes=False)

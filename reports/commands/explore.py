"""`python -m reports explore`: a page with sliders that asks our own predictors."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from predict.lazily import lazily

with lazily():  # starlette, uvicorn and pandas
    from reports.explore import answering, page, server
    from reports.explore import worker as working

EXAMPLES = """Examples:

python -m reports explore

python -m reports explore --run runs/h100 --port 9000

python -m reports explore --tables tables/*.parquet
"""


def explore(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[TABLE]...", help="More tables.")] = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page is; 0 takes a free port.")] = 8765,
    run: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Folder of a run, drawn beside what is predicted. Repeat.")
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(metavar="TABLE", help="Measured tables likewise: parquet, CSV. Any number may follow."),
    ] = None,
) -> None:
    """Answer questions about models and kernels in a browser, on this machine alone."""
    listening = server.listen(port)
    try:
        begin = functools.partial(answering.begin, tuple(run or ()), (*(tables or ()), *(more or ())))
        with ThreadPoolExecutor() as beside:  # each takes seconds
            made = beside.submit(lambda: (page.render_page(), page.assets()))
            worker = working.Worker(begin)
        try:
            app = server.make_app(worker, *made.result(), port=server.port_of(listening))
            server.serve(app, listening, worker.close)
        finally:
            worker.close()
    finally:
        listening.close()

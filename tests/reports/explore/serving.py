"""`python -m tests.reports.explore.serving`: the server before a worker that tells what it was asked."""

import sys

from reports.explore import server
from reports.explore.worker import Worker
from tests.reports.explore.begins import begin

PAGE = "<!doctype html>\n<title>the page</title>\n"
ASSETS = {
    "explore.js": server.Asset(b"'script'", "text/javascript"),
    "explore.css": server.Asset(b"body {}", "text/css"),
    "vega.js": server.Asset(b"// " + b"vega " * 200_000, "text/javascript"),
}


def main():
    listening = server.listen(0)
    worker = Worker(begin, limit_s=float(sys.argv[1]))
    try:
        server.serve(server.make_app(worker, PAGE, ASSETS, port=server.port_of(listening)), listening, worker.close)
    finally:
        worker.close()


if __name__ == "__main__":
    main()

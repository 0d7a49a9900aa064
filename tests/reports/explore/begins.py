"""What workers begin with in these tests; a child loads no more than this module and what the worker loads."""

import itertools
import json
import os
import time
from pathlib import Path

from predict.errors import BadQuantity, BadRun
from reports.explore.worker import Reply

SECRET = "a text of ours that no client may see"


def begin():
    """Answers with what was asked, and with the id of this process; some sections misbehave."""
    count = itertools.count(1)

    def answer(request):
        query = dict(request.query)
        match request.section:
            case "spin":
                while True:
                    pass
            case "exit":
                os._exit(3)
            case "memory":
                bytearray(1 << int(query.get("log2", "46")))
            case "bug":
                raise ValueError(SECRET)
            case "bad":
                raise BadQuantity("batch must be\npositive")
            case "gate":
                while not Path(query["file"]).exists():
                    time.sleep(0.01)
            case "count":
                return Reply(200, json.dumps({"count": next(count)}).encode())
            case "config" if request.config == b"not a configuration":
                return Reply(400, b'{"error": "not JSON"}')
        config = None if request.config is None else request.config.decode("latin-1")
        told = {"section": request.section, "query": request.query, "content": config, "pid": os.getpid()}
        return Reply(200, json.dumps(told).encode())

    return answer


def begin_beside(folder):
    """As above; refuses if the folder has a file `refuse`, ends if it has a file `exit`."""
    if (folder / "refuse").exists():
        raise BadRun(f"no run in {folder}")
    if (folder / "exit").exists():
        os._exit(7)
    return begin()


def begin_without_a_package():
    raise ModuleNotFoundError("No module named 'pandas'", name="pandas")


def begin_with_a_bug():
    raise ValueError("a bug")


def begin_with_too_much():
    bytearray(1 << 46)


def never_begin():
    time.sleep(600)

import pytest

from bench import store
from bench.record import Status, to_line
from predict.errors import BadRecord
from tests.factories import make_record


@pytest.fixture
def file(tmp_path):
    return tmp_path / store.RECORDS


def test_records_come_back_in_order(file):
    records = [make_record(implementation=name) for name in ("torch", "triton")]
    for record in records:
        store.append(file, record)
    assert store.read(file).records == tuple(records)


def test_a_later_record_of_the_same_key_replaces_the_earlier_one(file):
    store.append(file, make_record(status=Status.TIMEOUT))
    store.append(file, make_record(implementation="triton"))
    store.append(file, make_record(time_s=2.0))
    first, second = store.read(file).records
    assert (first.status, first.implementation, second.implementation) == (Status.MEASURED, "torch", "triton")


def test_a_truncated_last_line_is_named_by_file_and_line(file):
    store.append(file, make_record())
    with file.open("a") as lines:
        lines.write(to_line(make_record(implementation="triton"))[:100])
    with pytest.raises(BadRecord, match=rf"{store.RECORDS}:2: not JSON .*--skip-broken reads the rest"):
        store.read(file)
    stored = store.read(file, skip_broken=True)
    assert len(stored.records) == 1
    assert len(stored.broken) == 1
    assert f"{store.RECORDS}:2" in stored.broken[0]


def test_bytes_that_are_not_text_are_a_broken_line(file):
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadRecord, match=":1: "):
        store.read(file)


def test_an_empty_file_holds_no_records(file):
    file.touch()
    assert store.read(file) == store.Stored((), ())

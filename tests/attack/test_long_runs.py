"""A run of very many objects: who takes it over, reads it or looks after it does work in proportion to them."""

import contextlib
import json
from collections.abc import Callable

import pytest
from counting_shelf import CountingShelf
from growth import more_than, seconds
from ledger_samples import trial

from seal_ray.config import StorageSection
from seal_ray.errors import DataError
from seal_ray.policy import versions
from seal_ray.records import Version, digest
from seal_ray.storage import codec, store
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.segments import segment_path
from seal_ray.storage.verification import verify

SETTINGS = StorageSection(patience=0, segment_bytes=10**6, segment_seconds=3600, lease=3600)
SMALL, TIMES = 300, 8
LINE = codec.text(trial("c")).encode()


@pytest.fixture
def shelved(monkeypatch: pytest.MonkeyPatch) -> Callable[[CountingShelf], Ledger]:
    """A ledger on a shelf."""

    def open_on(shelf: CountingShelf) -> Ledger:
        monkeypatch.setattr(store, "open_backend", lambda uri, settings: shelf)
        return Ledger("memory://run", SETTINGS)

    return open_on


Open = Callable[[CountingShelf], Ledger]


def begun(open_on: Open) -> CountingShelf:
    shelf = CountingShelf()
    ledger = open_on(shelf)
    ledger.create({}, {}, 0)
    return shelf


def put(shelf: CountingShelf, folder: str, epoch: int, numbers: range) -> None:
    """Segments as a driver of that epoch left them."""
    for number in numbers:
        path = segment_path(folder, epoch, number)
        shelf.objects[path] = codec.pack_segment(path, [LINE.replace(b'"c"', f'"{epoch}-{number}"'.encode())])


def driven(open_on: Open, shelf: CountingShelf) -> None:
    """Somebody takes the run over and hands it on."""
    ledger = open_on(shelf)
    ledger.acquire("somebody")
    ledger.close()


def an_open_round(open_on: Open, count: int) -> CountingShelf:
    """A round with that many segments and events of one driver."""
    shelf = begun(open_on)
    driven(open_on, shelf)
    put(shelf, "rounds/0001/trials", 1, range(1, count + 1))
    put(shelf, "events", 1, range(1, count + 1))
    return shelf


def with_holes(open_on: Open, count: int) -> CountingShelf:
    """Every other segment is gone."""
    shelf = an_open_round(open_on, count)
    driven(open_on, shelf)
    for number in range(1, count + 1, 2):
        del shelf.objects[segment_path("rounds/0001/trials", 1, number)]
    driven(open_on, shelf)
    return shelf


def many_rounds(open_on: Open, count: int) -> CountingShelf:
    """Every round has a named part, which the take-over of another driver found."""
    shelf = begun(open_on)
    driven(open_on, shelf)
    for number in range(1, count // 4 + 1):
        path = f"rounds/{number:04d}/tasks.json"
        shelf.objects[path] = codec.pack_part(path, 1, {"tasks": []})
    driven(open_on, shelf)
    return shelf


def take_over(ledger: Ledger) -> None:
    ledger.acquire("the next")
    ledger.close()


def read(ledger: Ledger) -> None:
    ledger.round(1).records("trials")
    ledger.round(1).get("tasks.json")


def delete(ledger: Ledger) -> None:
    with contextlib.suppress(DataError):  # not every run has such a task
        delete_task(ledger, "t")


WORK: dict[str, Callable[[Ledger], object]] = {
    "take over": take_over,
    "read": read,
    "verify": verify,
    "gc": lambda ledger: gc(ledger, dry_run=True),
    "delete": delete,
}


@pytest.mark.parametrize("kind", [an_open_round, with_holes, many_rounds])
@pytest.mark.parametrize("work", sorted(WORK))
def test_work_on_a_long_run_is_in_proportion_to_it(
    shelved: Open, kind: Callable[[Open, int], CountingShelf], work: str
) -> None:
    asked: dict[int, int] = {}

    def seconds_of(count: int) -> float:
        shelf = kind(shelved, count)
        shelf.asked.clear()
        ledger = shelved(shelf)
        took = seconds(lambda: WORK[work](ledger))
        asked[count] = shelf.asked.total()
        return took

    seconds_of(SMALL)
    assert not more_than(TIMES, lambda: seconds_of(SMALL), lambda: seconds_of(SMALL * TIMES))
    assert asked[SMALL * TIMES] <= 2 * TIMES * asked[SMALL], asked


def test_a_take_over_asks_as_often_whatever_is_committed(shelved: Open) -> None:
    """Rounds that an earlier take-over knew to be whole are not listed again."""
    asked = []
    for rounds in (3, 30):
        shelf = begun(shelved)
        ledger = shelved(shelf)
        ledger.acquire("me")
        for number in range(1, rounds + 1):
            for n in range(10):
                ledger.round(number).append("trials", trial(f"{number}-{n}"))
            ledger.round(number).put("gate.json", {})
            ledger.round(number).commit({})
        ledger.close()
        driven(shelved, shelf)
        shelf.asked.clear()
        driven(shelved, shelf)
        asked.append(+shelf.asked)
    assert asked[0] == asked[1]


def test_a_chain_of_thousands_of_versions_is_shown() -> None:
    chain = [versions.first("base")]
    for number in range(1, 3000):
        before = chain[-1]
        chain.append(Version(number, digest([before.digest]), "base", before.digest, "v", "adapter", 8))
    roots = versions.lineage(chain, {}, {}, chain[-1])
    lines = versions.tree(roots).splitlines()
    assert len(lines) == 3000 and lines[2999].endswith("current  from version 2998") and max(map(len, lines)) < 200
    listed = json.loads(json.dumps(versions.flat(roots)))
    assert [node["version"]["number"] for node in listed] == list(range(3000))
    assert listed[7]["children"] == [chain[8].digest]


def test_a_sign_of_life_tells_of_what_is_not_committed_and_not_of_the_whole_run(shelved: Open) -> None:
    shelf = begun(shelved)
    ledger = shelved(shelf)
    ledger.acquire("me")
    connection = ledger._connection
    for number in range(1, 20):
        for n in range(10):
            ledger.round(number).append("trials", trial(f"{number}-{n}"))
            ledger.round(number).flush()
        ledger.round(number).put("gate.json", {})
        assert connection.written().segments == {f"rounds/{number:04d}/trials": {1: ((1, 10),)}}
        assert connection.written().files == {f"rounds/{number:04d}/gate.json"}
        ledger.round(number).commit({})
        writer = connection.writer
        assert writer and not writer.landed and not connection._created, "it is carried along for good"
    assert verify(ledger) == []
    ledger.close()

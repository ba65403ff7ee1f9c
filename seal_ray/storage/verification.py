"""Reading everything of a run and naming what is not as it should be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seal_ray.errors import Missing, SealError
from seal_ray.records import Json
from seal_ray.storage import codec
from seal_ray.storage.connection import Connection
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import Part, StoredObject
from seal_ray.storage.rounds import KINDS, listed, same_name
from seal_ray.storage.seen import read_seen
from seal_ray.storage.segments import parse
from seal_ray.storage.store import Store


@dataclass(frozen=True)
class Problem:
    """Something in the record that is not as it should be."""

    path: str
    what: str  # missing, damaged, late
    message: str
    grave: bool = True  # False: readers pass over it and nothing is lost


def verify(ledger: Ledger) -> list[Problem]:
    """Read every object that counts and compare it with its digest."""
    store = ledger.store
    found = [_check_part(store, "run.json")]
    entries = {e.path: e for e in store.list("")}
    found += [_check_part(store, p) for p in entries if p.startswith(("epochs/", "tombstones/"))]
    found = [p for p in found if p]
    if any(p.path.endswith(".seen.json") for p in found):
        return found  # without it nobody can say what counts
    connection = Connection(store, ledger.settings, read_only=True, seen=read_seen(store))
    for number in ledger.rounds():
        prefix = f"rounds/{number:04d}"
        below = {p: e for p, e in entries.items() if p.startswith(f"{prefix}/")}
        found += _verify_round(connection, prefix, below)
    found += _verify_segments(connection, "events", [p for p in entries if p.startswith("events/")], grave=False)
    return found


def _verify_round(connection: Connection, prefix: str, entries: Mapping[str, StoredObject]) -> Iterator[Problem]:
    store = connection.store
    manifest: dict[str, Json] | None = None
    faults: list[Problem] = []
    for path in same_name(entries, f"{prefix}/manifest"):
        problem, value = check_named(connection, path)
        if problem:
            yield problem
        if value is not None:
            wrong = list(_verify_listed(connection, entries, [Part(**p) for p in value["parts"]]))
            if manifest is None or not wrong:
                manifest, faults = value, wrong
                if not wrong:
                    break
    if manifest is not None:
        yield from faults
        return
    tops = [p for p in entries if p.count("/") == 2 and not p.startswith(f"{prefix}/manifest")]
    for path in tops:
        problem, value = check_named(connection, path)
        if problem:
            yield problem
        elif path.endswith(".files.json") and value is not None:
            yield from _verify_listed(connection, entries, listed(value))
    for kind in KINDS:
        folder = f"{prefix}/{kind}"
        yield from _verify_segments(connection, folder, [p for p in entries if p.startswith(f"{folder}/")])
    stray = [p for p in entries if p.count("/") > 2 and not parse(p) and p.split("/")[2] in KINDS]
    for path in stray:
        yield Problem(path, "damaged", f"{store.uri(path)} is no segment: nobody here wrote it", grave=False)


def _verify_listed(connection: Connection, entries: Mapping[str, StoredObject], parts: list[Part]) -> Iterator[Problem]:
    for part in parts:
        uri = connection.store.uri(part.path)
        if part.path not in entries:
            yield Problem(part.path, "missing", f"{uri} is gone")
            continue
        now = connection.store.part(part.path)
        if now != part and not connection.is_redacted(now):
            size = f"{now.size} bytes instead of {part.size}" if now.size != part.size else "another digest"
            yield Problem(part.path, "damaged", f"{uri} is damaged: it has {size}")


def _verify_segments(connection: Connection, folder: str, paths: list[str], *, grave: bool = True) -> Iterator[Problem]:
    seen, store = connection.seen(), connection.store
    for epoch, number in seen.expected(folder):
        path = f"{folder}/e{epoch:06d}-{number:08d}.jsonl"
        if path not in paths:
            yield Problem(path, "missing", f"{store.uri(path)} is gone", grave)
    for path in paths:
        if not parse(path):
            continue
        if not seen.accepts(path):
            message = f"{store.uri(path)} was written by a driver that had been replaced; nobody reads it"
            yield Problem(path, "late", message, grave=False)
            continue
        try:
            header, _ = codec.unpack_segment(store.read(path), store.uri(path))
            if (folder, header["epoch"], header["number"]) != parse(path):
                yield Problem(path, "damaged", f"{store.uri(path)} is damaged: it is another segment", grave)
        except SealError as error:
            yield Problem(path, "damaged", error.message, grave)


def check_named(connection: Connection, path: str) -> tuple[Problem | None, Json]:
    """What is wrong with a named part, and its value if it counts."""
    uri = connection.store.uri(path)
    try:
        value, envelope = codec.unpack_part(connection.store.read(path), uri)
    except SealError as error:
        return Problem(path, "damaged", error.message), None
    if not connection.counts(path, envelope["epoch"]):
        return Problem(path, "late", f"{uri} was written by a driver that had been replaced", grave=False), None
    return None, value


def _check_part(store: Store, path: str) -> Problem | None:
    try:
        codec.unpack_part(store.read(path), store.uri(path))
    except Missing as error:
        return Problem(path, "missing", error.message)
    except SealError as error:
        return Problem(path, "damaged", error.message)
    return None

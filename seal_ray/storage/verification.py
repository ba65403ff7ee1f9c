"""Reading everything of a run and naming what is not as it should be.

Digests tell of what is there. That something is gone can only be told from what others say of it: a manifest of its
parts, a take-over of what it found, a driver's last heartbeat or its release of what it had written, and numbers of
what must have come before. What a driver wrote
between its last heartbeat and being killed is vouched for by nobody.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seal_ray.errors import Missing, SealError
from seal_ray.records import Json, decode
from seal_ray.storage import codec
from seal_ray.storage.connection import Connection, round_of
from seal_ray.storage.epochs import epoch_path
from seal_ray.storage.large_uploads import claim
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import Part, StoredObject
from seal_ray.storage.round_parts import folder_index, listed, same_name
from seal_ray.storage.round_records import KINDS, together
from seal_ray.storage.seen import MANY, Seen, joined, named, ranges, read_seen, seen_path, without
from seal_ray.storage.segments import parse
from seal_ray.storage.store import Store

VOUCHER = re.compile(r"epochs/[0-9]{6}\.(seen|beat|end)\.json")


@dataclass(frozen=True)
class Problem:
    """Something in the record that is not as it should be."""

    path: str
    what: str  # missing, damaged, late
    message: str
    grave: bool = True  # False: readers pass over it and nothing is lost


def verify(ledger: Ledger) -> list[Problem]:
    """Read every object that counts and compare it with its digest; miss what others say must be there."""
    store = ledger.store
    entries = {e.path: e for e in store.list("")}
    problems = [_check_part(store, "run.json")]
    problems += [_check_part(store, p) for p in entries if p.startswith(("epochs/", "tombstones/"))]
    problems = [p for p in problems if p]
    problems += _missing_epochs(store, entries)
    connection = Connection(store, ledger.settings, read_only=True, seen=read_seen(store))
    vouched = _vouched(store, entries, connection.seen())
    problems += _verify_rounds(connection, entries, vouched)
    paths = [p for p in entries if p.startswith("events/")]
    problems += _verify_segments(connection, "events", paths, vouched, grave=False)
    return problems


def _missing_epochs(store: Store, entries: Mapping[str, StoredObject]) -> Iterator[Problem]:
    """Take-overs are numbered without gaps, and one whose driver wrote anything had come to its end."""
    wrote = {s[1] for p in entries if (s := parse(p))}
    numbers = {int(p[7:13]) for p in entries if re.fullmatch(r"epochs/[0-9]{6}\..*json", p)} | wrote
    latest = max(numbers, default=0)
    for first, last in _lacking({n for n in numbers if epoch_path(n) in entries}, latest):
        yield from _gone(store, first, last, epoch_path)
    # older ones are cleared away once a later take-over has looked; a beat may come before the look is over
    if latest and seen_path(latest) not in entries and (latest in wrote or f"epochs/{latest:06d}.end.json" in entries):
        message = f"{store.uri(seen_path(latest))} is gone: what replaced drivers wrote late counts with the rest"
        yield Problem(seen_path(latest), "missing", message)


def _lacking(numbers: Iterable[int], last: int) -> Iterator[tuple[int, int]]:
    """Runs of what is not among these numbers, from 1 to the last."""
    return without(((1, last),), tuple((n, n) for n in sorted(numbers)))


def _gone(store: Store, first: int, last: int, path: Callable[[int], str]) -> Iterator[Problem]:
    """Each of these that are gone; of many in a row the first, which stands for all: a name may hold any number."""
    if last - first < MANY:
        yield from (Problem(path(n), "missing", f"{store.uri(path(n))} is gone") for n in range(first, last + 1))
    else:
        more = f" and the {last - first} after it"
        yield Problem(path(first), "missing", f"{store.uri(path(first))}{more} are gone")


def _vouched(store: Store, entries: Mapping[str, StoredObject], seen: Seen) -> Seen:
    """All that was once in the store by the word of a take-over, a heartbeat or a release."""
    files, segments, committed = set(seen.files), seen.segments, seen.committed
    for path in entries:
        if not VOUCHER.fullmatch(path) or path.endswith(".seen.json") or int(path[7:13]) < seen.epoch:
            continue
        try:
            value, _ = codec.unpack_part(store.read(path), path, store.uri(path))
        except SealError:
            continue  # named already
        if "written" in value:
            written = Seen.from_json(value["written"])
            files |= written.files
            segments, committed = joined(segments, written.segments), max(committed, written.committed)
    return Seen(seen.epoch, frozenset(files), segments, committed)


def _verify_rounds(connection: Connection, entries: Mapping[str, StoredObject], vouched: Seen) -> Iterator[Problem]:
    """Each round that is there, or that somebody says was."""
    there: dict[int, dict[str, StoredObject]] = {}
    files: dict[int, list[str]] = {}
    for path, entry in entries.items():
        if number := round_of(path):
            there.setdefault(number, {})[path] = entry
    for path in vouched.files:
        files.setdefault(round_of(path), []).append(path)
    told_of = {round_of(f"{folder}/") for folder in vouched.segments} | files.keys() - {0}
    last = max([vouched.committed, *there], default=0)
    for number in sorted(there.keys() | told_of - {0}):
        must_be_committed = number <= vouched.committed or number < last
        below = there.get(number, {})
        yield from _Round(connection, number, below, vouched, files.get(number, []), must_be_committed).problems()
    for first, until in _lacking(there.keys() | told_of, last):
        yield from _gone(connection.store, first, until, lambda number: f"rounds/{number:04d}/manifest.json")


class _Round:
    """One round, and what others say of it."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        entries: Mapping[str, StoredObject],
        vouched: Seen,
        files: list[str],  # of the round, that are vouched for
        committed: bool,
    ) -> None:
        self.connection, self.store, self.prefix = connection, connection.store, f"rounds/{number:04d}"
        self.entries, self.vouched, self.files = entries, vouched, files
        self.must_be_committed = committed
        self.digests: dict[str, dict[str, bytes]] = {}  # of the records that were read, by kind and id
        self.redacted: set[str] = set()  # kinds of which a deletion took some

    def problems(self) -> Iterator[Problem]:
        manifest: dict[str, Json] | None = None
        wrong: list[Problem] = []
        for path in same_name(self.entries, f"{self.prefix}/manifest"):
            problem, value = check_named(self.connection, path)
            if problem:
                yield problem
            if value is not None:
                mine = [*self._listed([Part(**p) for p in value["parts"]])]
                if manifest is None or not mine:
                    manifest, wrong = value, mine
                    if not mine:
                        break
        if manifest is None:
            yield from self._open_round()
            return
        yield from wrong
        if not wrong:
            yield from self._counted(manifest)

    def _open_round(self) -> Iterator[Problem]:
        manifest = f"{self.prefix}/manifest.json"
        if self.must_be_committed and manifest not in self.entries:
            yield Problem(manifest, "missing", f"{self.store.uri(manifest)} is gone: the round was committed")
        aside: set[str] = set()
        for kind in KINDS:
            folder = f"{self.prefix}/{kind}"
            paths = [p for p in self.entries if p.startswith(f"{folder}/")]
            problems = [*_verify_segments(self.connection, folder, paths, self.vouched)]
            yield from problems
            if kind == "discards":
                aside = self._set_aside()
        for path in self.files:
            if path not in self.entries and path not in aside and not path.startswith(f"{self.prefix}/manifest."):
                yield Problem(path, "missing", f"{self.store.uri(path)} is gone")
        for path in self.entries:
            if path.endswith(claim("")):  # beside what goes up in several parts
                if path.removesuffix(claim("")) not in self.entries:
                    message = f"{self.store.uri(path)} claims what is on its way, or never came as its driver died"
                    yield Problem(path, "missing", message, grave=False)
            elif path.count("/") == 2 and not path.startswith(f"{self.prefix}/manifest"):
                problem, value = check_named(self.connection, path)
                if problem:
                    yield problem
                elif is_index(path) and value is not None and path not in aside:
                    yield from self._listed(listed(value))
            elif path.count("/") > 2 and not parse(path) and path.split("/")[2] in KINDS:
                message = f"{self.store.uri(path)} is no segment: nobody here wrote it"
                yield Problem(path, "damaged", message, grave=False)

    def _set_aside(self) -> set[str]:
        """Which parts a driver set aside, by the segments of that which are whole."""
        aside: set[str] = set()
        for path in self.entries:
            if path.startswith(f"{self.prefix}/discards/") and self.connection.seen().accepts(path):
                with contextlib.suppress(SealError, ValueError):
                    aside.update(record.id for _, record in read_records(self.store, path, self.store.read(path)))
        return aside

    def _listed(self, parts: list[Part]) -> Iterator[Problem]:
        for part in parts:
            uri = self.store.uri(part.path)
            if part.path not in self.entries:
                yield Problem(part.path, "missing", f"{uri} is gone")
                continue
            is_ours = parse(part.path) is not None or (part.path.count("/") == 2 and part.path.endswith(".json"))
            data = self.store.read(part.path) if is_ours else b""
            now = Part(part.path, len(data), codec.sha256(data)) if is_ours else self.store.part(part.path)
            redacted = now != part and self.connection.is_redacted(now)
            if now != part and not redacted:
                size = f"{now.size} bytes instead of {part.size}" if now.size != part.size else "another digest"
                yield Problem(part.path, "damaged", f"{uri} is damaged: it has {size}")
            elif is_ours:
                yield from self._readable(part.path, data, redacted)

    def _readable(self, path: str, data: bytes, redacted: bool) -> Iterator[Problem]:
        """What is whole by the manifest and no part of a ledger all the same was wrong before the commit."""
        try:
            if segment := parse(path):
                kind = segment[0].rpartition("/")[2]
                if redacted:
                    self.redacted.add(kind)
                for line, record in read_records(self.store, path, data):
                    self.digests.setdefault(kind, {}).setdefault(record.id, codec.line_digest(line))
            else:
                codec.unpack_part(data, path, self.store.uri(path))
        except SealError as error:
            yield Problem(path, "damaged", error.message)
        except ValueError as error:
            yield Problem(path, "damaged", f"{self.store.uri(path)}: {error}")

    def _counted(self, manifest: Mapping[str, Json]) -> Iterator[Problem]:
        """The records that the manifest counts are those that a reader finds."""
        for kind, told in manifest.get("records", {}).items():
            digests = self.digests.get(kind, {})
            if kind not in self.redacted and told != {"count": len(digests), "digest": together(digests)}:
                path = f"{self.prefix}/manifest.json"
                message = f"{self.store.uri(path)} counts {told['count']} {kind}, its segments hold {len(digests)}"
                yield Problem(path, "damaged", f"{message} or others")


def _verify_segments(
    connection: Connection, folder: str, paths: list[str], vouched: Seen, *, grave: bool = True
) -> Iterator[Problem]:
    seen, store = connection.seen(), connection.store
    whole: list[str] = []
    for path in paths:
        if not parse(path):
            continue
        if not seen.accepts(path):
            message = f"{store.uri(path)} was written by a driver that had been replaced; nobody reads it"
            yield Problem(path, "late", message, grave=False)
            continue
        try:
            read_records(store, path, store.read(path))
            whole.append(path)
        except SealError as error:
            yield Problem(path, "damaged", error.message, grave)
        except ValueError as error:
            yield Problem(path, "damaged", f"{store.uri(path)}: {error}", grave)
    missing = vouched.missing(folder, paths)
    for path, more in named(folder, missing):
        yield Problem(path, "missing", f"{store.uri(path)}{more} is gone", grave)
    there = ranges(paths).get(folder, {})
    for epoch, runs in ranges(whole).get(folder, {}).items():
        # numbers have no gaps but where uploads that went side by side are on their way, or died with their driver
        if epoch < seen.epoch:
            continue
        gaps = tuple(without(((1, runs[-1][1]),), there[epoch]))
        for path, more in named(folder, {epoch: tuple(without(gaps, missing.get(epoch, ())))}):
            message = f"{store.uri(path)}{more} is not there: on its way, never there as its driver died, or gone"
            yield Problem(path, "missing", message, grave=False)


def read_records(store: Store, path: str, data: bytes) -> list[tuple[bytes, Any]]:
    """Each line of a segment with its record; raises where the segment is damaged or a line is no record."""
    schema, lines = codec.unpack_segment(data, path, store.uri(path))
    values, kind = codec.parsed(lines, store.uri(path)), path.split("/")[-2]
    if kind not in KINDS or not path.startswith("rounds/"):
        return []  # events: what is none is read as one that is not known
    return [
        (line, decode(KINDS[kind], codec.migrate(kind, schema, value)))
        for line, value in zip(lines, values, strict=True)
    ]


def is_index(path: str) -> bool:
    """Whether a named part lists the files of a kept folder."""
    return path.endswith(folder_index("")) or ".files.e" in path


def check_named(connection: Connection, path: str) -> tuple[Problem | None, Json]:
    """What is wrong with a named part, and its value if it counts."""
    uri = connection.store.uri(path)
    try:
        value, epoch = codec.unpack_part(connection.store.read(path), path, uri)
    except SealError as error:
        return Problem(path, "damaged", error.message), None
    if not connection.counts(path, epoch):
        return Problem(path, "late", f"{uri} was written by a driver that had been replaced", grave=False), None
    return None, value


def _check_part(store: Store, path: str) -> Problem | None:
    try:
        codec.unpack_part(store.read(path), path, store.uri(path))
    except Missing as error:
        return Problem(path, "missing", error.message)
    except SealError as error:
        return Problem(path, "damaged", error.message)
    return None

"""Reading everything of a run and naming what is not as it should be.

Digests tell of what is there. That something is gone can only be told from what others say of it: a manifest of its
parts, a take-over of what it found, a driver's last heartbeat or its release of what it had written, and numbers of
what must have come before. What a driver wrote
between its last heartbeat and being killed is vouched for by nobody.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seal_ray.errors import Missing, SealError
from seal_ray.records import Json, decode
from seal_ray.storage import codec
from seal_ray.storage.connection import Connection, round_of
from seal_ray.storage.epochs import epoch_path
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import Part, StoredObject
from seal_ray.storage.round_parts import folder_index, listed, same_name
from seal_ray.storage.round_records import KINDS, together
from seal_ray.storage.seen import Seen, joined, ranges, read_seen, seen_path
from seal_ray.storage.segments import parse, segment_path
from seal_ray.storage.store import Store

VOUCHER = re.compile(r"epochs/\d{6}\.(seen|beat|end)\.json")


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
    rounds = sorted({n for p in entries if (n := round_of(p))})
    for number in range(1, max([vouched.committed, *rounds], default=0) + 1):
        prefix = f"rounds/{number:04d}"
        below = {p: e for p, e in entries.items() if p.startswith(f"{prefix}/")}
        must_be_committed = number <= vouched.committed or any(n > number for n in rounds)
        problems += _Round(connection, prefix, below, vouched, must_be_committed).problems()
    paths = [p for p in entries if p.startswith("events/")]
    problems += _verify_segments(connection, "events", paths, vouched, grave=False)
    return problems


def _missing_epochs(store: Store, entries: Mapping[str, StoredObject]) -> Iterator[Problem]:
    """Take-overs are numbered without gaps, and one whose driver wrote anything had come to its end."""
    wrote = {s[1] for p in entries if (s := parse(p))}
    numbers = {int(p[7:13]) for p in entries if re.fullmatch(r"epochs/\d{6}\..*json", p)} | wrote
    for epoch in range(1, max(numbers, default=0) + 1):
        if epoch_path(epoch) not in entries:
            yield Problem(epoch_path(epoch), "missing", f"{store.uri(epoch_path(epoch))} is gone")
        done = epoch in wrote or any(f"epochs/{epoch:06d}.{kind}.json" in entries for kind in ("beat", "end"))
        latest = epoch == max(numbers)
        # older ones are cleared away once a later take-over has looked; a beat may come before the look is over
        if latest and seen_path(epoch) not in entries and (epoch in wrote or (done and _has_ended(entries, epoch))):
            message = f"{store.uri(seen_path(epoch))} is gone: what replaced drivers wrote late counts with the rest"
            yield Problem(seen_path(epoch), "missing", message)


def _has_ended(entries: Mapping[str, StoredObject], epoch: int) -> bool:
    return f"epochs/{epoch:06d}.end.json" in entries


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


class _Round:
    """One round, and what others say of it."""

    def __init__(
        self, connection: Connection, prefix: str, entries: Mapping[str, StoredObject], vouched: Seen, committed: bool
    ) -> None:
        self.connection, self.store, self.prefix = connection, connection.store, prefix
        self.entries, self.vouched, self.must_be_committed = entries, vouched, committed
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
                bad = {p.path for p in problems}
                aside = {line["id"] for p in paths if p not in bad and parse(p) for line in self._lines(p)}
        for path in self.vouched.files:
            if path.startswith(f"{self.prefix}/") and path not in self.entries and path not in aside:
                if path.startswith(f"{self.prefix}/manifest."):
                    continue
                yield Problem(path, "missing", f"{self.store.uri(path)} is gone")
        for path in self.entries:
            if path.count("/") == 2 and not path.startswith(f"{self.prefix}/manifest"):
                problem, value = check_named(self.connection, path)
                if problem:
                    yield problem
                elif is_index(path) and value is not None and path not in aside:
                    yield from self._listed(listed(value))
            elif path.count("/") > 2 and not parse(path) and path.split("/")[2] in KINDS:
                message = f"{self.store.uri(path)} is no segment: nobody here wrote it"
                yield Problem(path, "damaged", message, grave=False)

    def _lines(self, path: str) -> list[Json]:
        return [json.loads(line) for line in codec.unpack_segment(self.store.read(path), path, path)[1]]

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
                schema, lines = codec.unpack_segment(data, path, self.store.uri(path))
                kind = segment[0].rpartition("/")[2]
                if redacted:
                    self.redacted.add(kind)
                for line in lines if kind in KINDS else ():
                    record = decode(KINDS[kind], codec.migrate(kind, schema, json.loads(line)))
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
            codec.unpack_segment(store.read(path), path, store.uri(path))
            whole.append(path)
        except SealError as error:
            yield Problem(path, "damaged", error.message, grave)
    must = {segment_path(folder, e, n) for e, n in vouched.expected(folder)}
    for path in sorted(must - set(paths)):
        yield Problem(path, "missing", f"{store.uri(path)} is gone", grave)
    for epoch, runs in ranges(whole).get(folder, {}).items():
        # numbers have no gaps but where uploads that went side by side are on their way, or died with their driver
        before = {segment_path(folder, epoch, n) for n in range(1, runs[-1][1])} if epoch >= seen.epoch else set()
        for path in sorted(before - set(paths) - must):
            message = f"{store.uri(path)} is not there: it is on its way, its driver died before it was, or it is gone"
            yield Problem(path, "missing", message, grave=False)


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

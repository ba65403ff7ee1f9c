"""A round's records: the first of each id, appended in segments and read back from those that count."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.errors import LedgerError, Missing, StorageError
from seal_ray.records import (
    Candidate,
    Dropping,
    Edit,
    Json,
    ProbeCheck,
    ProbeQuestion,
    Repeats,
    Reply,
    Trial,
    Verdict,
    decode,
    encode,
)
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.connection import Connection
from seal_ray.storage.objects import Part, StoredObject
from seal_ray.storage.seen import MANY, named
from seal_ray.storage.segments import parse


@dataclass(frozen=True)
class Discard:
    """A part that was set aside: readers pass over it."""

    id: str  # the part's path


KINDS: dict[str, type] = {
    "edits": Edit,
    "candidates": Candidate,
    "trials": Trial,
    "verdicts": Verdict,
    "repeats": Repeats,
    "droppings": Dropping,
    "replies": Reply,
    "questions": ProbeQuestion,
    "checks": ProbeCheck,
    "discards": Discard,
}


@dataclass(frozen=True)
class _Segment:
    """What stands in one object: each record, with its line's digest."""

    part: Part
    lines: tuple[tuple[Any, bytes], ...]
    listed: StoredObject | None = None  # as it stood in the listing; None where a manifest named it


@dataclass
class _Kind:
    """Records of one kind: the first of each id, the digests of their lines, and the segments that they came from."""

    records: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    segments: dict[str, _Segment] = field(default_factory=dict)
    is_final: bool = False  # the round is committed: nothing comes any more

    def take(self, segment: _Segment) -> None:
        self.segments[segment.part.path] = segment
        for record, digest in segment.lines:
            if record.id not in self.records:
                self.records[record.id] = record
                self.digests[record.id] = digest


class RoundRecords:
    """`manifest` says what a committed round holds; `note` takes what was passed over because it is damaged or gone."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        manifest: Callable[[], Mapping[str, Json] | None],
        note: Callable[[str], None],
        lock: threading.RLock,
    ) -> None:
        self._connection, self._store, self._prefix = connection, connection.store, prefix
        self._manifest, self._note, self._lock = manifest, note, lock
        self._mine: dict[str, _Kind] = {kind: _Kind() for kind in KINDS}
        self._stored: dict[str, _Kind] = {}

    def append(self, kind: str, record: Any) -> bool:
        """Take a record; False if its id was there before. One that was not taken, for whatever reason, has no id."""
        return self.append_together(kind, (record,)) == 1

    def append_together(self, kind: str, records: Sequence[Any]) -> int:
        """Take records, all of which are in the store or none; the number of those whose id was not there before."""
        writer = self._connection.writing()
        lines = [_line(kind, record) for record in records]
        with self._lock:
            mine = self._mine[kind]
            # where nobody drove before, nothing is there that this driver did not write
            stored = self._load(kind).records if self._connection.epoch > 1 else {}
            fresh: dict[str, tuple[Any, bytes]] = {}
            for record, line in zip(records, lines, strict=True):
                if record.id not in mine.records and record.id not in stored:
                    fresh.setdefault(record.id, (record, line))
            if fresh:
                writer.append(f"{self._prefix}/{kind}", *(line for _, line in fresh.values()))
            for name, (record, line) in fresh.items():
                mine.records[name] = record
                mine.digests[name] = codec.line_digest(line)
        return len(fresh)

    def all(self, kind: str) -> dict[str, Any]:
        """The first record of each id, in the order in which they were recorded."""
        with self._lock:
            records = dict(self._load(kind).records)
            for key, record in self._mine[kind].records.items():
                records.setdefault(key, record)
            return records

    def set_aside(self) -> set[str]:
        """Paths of the parts that were discarded."""
        return self._load("discards").records.keys() | self._mine["discards"].records.keys()

    def forget(self) -> None:
        self._stored.clear()

    def in_store(self) -> tuple[dict[str, Part], dict[str, Json]]:
        """For the commit: every segment, and for each kind count and digest of the records that stand in them."""
        landed = {p: s for p, s in self._connection.writing().landed.items() if p.startswith(f"{self._prefix}/")}
        parts = {path: segment.part for path, segment in landed.items()}
        told: dict[str, Json] = {}
        for kind in KINDS:
            stored, mine = self._load(kind), self._mine[kind]
            folder = f"{self._prefix}/{kind}/"
            lines = sorted(d for p, s in landed.items() if p.startswith(folder) for d in s.digests)
            if lines != sorted(mine.digests.values()):
                raise LedgerError(
                    f"{self._store.uri(folder)} holds {len(lines)} of the {len(mine.digests)} records that this driver "
                    "has taken; the round is not committed",
                    hint="start the same command again: what is missing is done again",
                )
            parts |= {path: segment.part for path, segment in stored.segments.items()}
            digests = mine.digests | stored.digests
            if digests and kind != "discards":
                told[kind] = {"count": len(digests), "digest": together(digests)}
        return parts, told

    def _load(self, kind: str) -> _Kind:
        """What the store holds of a kind, but for what this driver itself has written."""
        stored = self._stored.get(kind)
        if stored is None or not (self._connection.hold or stored.is_final):
            stored = self._stored[kind] = self._read(kind, stored.segments if stored else {})
        return stored

    def _read(self, kind: str, before: Mapping[str, _Segment]) -> _Kind:
        """`before`: what was read at an earlier look; of that nothing is read again."""
        folder = f"{self._prefix}/{kind}"
        manifest = self._manifest()
        kept = _Kind(is_final=manifest is not None)
        if manifest is None or kind == "discards":
            there = self._counting(folder)
            old = {p: s for p, s in before.items() if p in there and s.listed == there[p]}
            committed = None
        else:
            there = dict.fromkeys(sorted(p["path"] for p in manifest["parts"] if p["path"].startswith(f"{folder}/")))
            committed = {p["path"]: Part(**p) for p in manifest["parts"] if p["path"] in there}
            old = {p: s for p, s in before.items() if committed.get(p) == s.part}
        fresh = iter(self._store.read_many([path for path in there if path not in old]))
        for path, listed in there.items():
            try:
                segment = old.get(path) or self._segment(kind, path, next(fresh), listed, committed)
            except (Missing, Damaged) as error:
                if committed is not None:
                    raise
                self._note(str(error))
                continue
            kept.take(segment)
        return kept

    def _segment(
        self,
        kind: str,
        path: str,
        data: bytes | StorageError,
        listed: StoredObject | None,
        committed: Mapping[str, Part] | None,
    ) -> _Segment:
        if isinstance(data, StorageError):
            raise data
        part, uri = Part(path, len(data), codec.sha256(data)), self._store.uri(path)
        if committed and part != committed[path] and not self._connection.is_redacted(part):
            raise Damaged(f"{uri} is damaged: it has another digest", hint=codec.DAMAGE_HINT)
        schema, lines = codec.unpack_segment(data, path, uri)
        values = codec.parsed(lines, uri)
        try:
            records = [decode(KINDS[kind], codec.migrate(kind, schema, value)) for value in values]
        except ValueError as error:
            raise LedgerError(
                f"{uri}: {error}", hint="it was written by another version of seal_ray; use that one"
            ) from None
        return _Segment(part, tuple(zip(records, map(codec.line_digest, lines), strict=True)), listed)

    def _counting(self, folder: str) -> dict[str, StoredObject]:
        """The folder's segments that count, by path, without this driver's own."""
        seen = self._connection.seen()
        own = self._connection.hold.epoch if self._connection.hold else None
        there = {e.path: e for e in self._store.list(f"{folder}/") if seen.accepts(e.path)}
        gone = list(named(folder, seen.missing(folder, there)))
        for path, more in gone[:MANY]:
            self._note(f"{self._store.uri(path)}{more} is gone")
        if len(gone) > MANY:
            self._note(f"{len(gone) - MANY} more segments of {self._store.uri(folder)} are gone")
        return {path: e for path, e in there.items() if (s := parse(path)) and s[1] != own}


def _line(kind: str, record: Any) -> bytes:
    assert isinstance(record, KINDS[kind]), f"{type(record).__name__} is no record of {kind}"
    try:
        return codec.text(record).encode()
    except (TypeError, ValueError) as error:
        encode(record)  # says which number it is
        raise ValueError(f"{kind}: {error}") from None


def together(digests: Mapping[str, bytes]) -> str:
    """One digest for a set of records, whatever their order and their segments."""
    whole = hashlib.sha256()
    for key in sorted(digests):
        whole.update(digests[key])
    return whole.hexdigest()

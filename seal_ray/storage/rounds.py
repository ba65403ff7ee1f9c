"""One round in the ledger: its named parts, its records in segments, its folders, and the manifest that commits it.

Nothing is ever replaced. Where a name is taken by something that does not count (torn, set aside, or written by a
driver that had been replaced), the next one stands beside it under the name with the epoch: `gate.e000003.json`.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.errors import AlreadyThere, LedgerError, Missing, StorageError
from seal_ray.records import Candidate, Edit, Json, Repeats, Trial, Verdict, canonical, digest, encode
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.connection import Connection
from seal_ray.storage.objects import Part, StoredObject, file_digest
from seal_ray.storage.record_decoder import decoder
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
    "discards": Discard,
}
DECODERS = {kind: decoder(cls) for kind, cls in KINDS.items()}
NAME = re.compile(r"(?P<stem>.+?)(\.e\d{6}(-\d+)?)?\.json")
MANIFEST = "manifest.json"
WORKING = "checkpoint"  # folders whose name begins so serve the round's work and are no part of its result
ATTEMPTS = 1000


@dataclass
class _Kind:
    """Records of one kind: the first of each id, the digests of their lines, and the segments that they came from."""

    records: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """A named part that counts."""

    path: str
    value: Json
    part: Part
    digest: str


class RoundLedger:
    """A round's record. Reading needs nothing; writing needs the run to be held."""

    def __init__(self, connection: Connection, number: int) -> None:
        if number < 1:
            raise LedgerError(f"{number} is not a round: they are counted from 1")
        self.number = number
        self.prefix = f"rounds/{number:04d}"
        self.damage: list[str] = []  # what was passed over because it is damaged or gone
        self._connection, self._store = connection, connection.store
        self._mine: dict[str, _Kind] = {kind: _Kind() for kind in KINDS}
        self._stored: dict[str, _Kind] = {}
        self._values: dict[str, Json] = {}
        self._uploaded: set[str] = set()
        self._manifest: dict[str, Json] | None = None
        self._is_open = False  # known to have no manifest
        self._lock = threading.RLock()

    # named parts

    def put(self, name: str, value: Any) -> None:
        """Write a part once. Everything appended before it is safe in the store first."""
        _check_name(name)
        value = encode(value)
        with self._lock:
            self.flush()
            there = self.get(name)
            if there is not None:
                if canonical(there) == canonical(value):
                    return
                raise AlreadyThere(
                    f"{self._store.uri(f'{self.prefix}/{name}')} is there already, with other content",
                    hint="a round's parts are written once; `discard` sets one aside",
                )
            self._create(name, value)
            self._values[name] = value

    def get(self, name: str) -> Json | None:
        """The part's value, or None where there is none that counts."""
        _check_name(name)
        with self._lock:
            if name in self._values:
                return self._values[name]
            found = self._find(name)
            if found is None:
                return None
            if self._connection.hold:
                self._values[name] = found.value
            return found.value

    def discard(self, name: str) -> None:
        """Set a part or a folder aside, so that it can be made again. A committed round stays as it is."""
        with self._lock:
            if self.manifest() is not None:
                raise LedgerError(f"{self._store.uri(self.prefix)} is committed: {name} can't be set aside")
            name = name if name.endswith(".json") else _index(name)
            for path in self._paths(name):
                self.append("discards", Discard(path))
            self.flush()
            self._values.pop(name, None)

    # records

    def append(self, kind: str, record: Any) -> bool:
        """Take a record, at once; it is in the store soon, and surely after `flush`. False: the id was there before."""
        assert isinstance(record, KINDS[kind]), f"{type(record).__name__} is no record of {kind}"
        writer = self._connection.writing()
        try:
            line = codec.text(record).encode()
        except (TypeError, ValueError) as error:
            encode(record)  # says which number it is
            raise ValueError(f"{kind}: {error}") from None
        with self._lock:
            mine, stored = self._mine[kind], self._stored.get(kind)
            if record.id in mine.records or (stored and record.id in stored.records):
                return False
            mine.records[record.id] = record
            mine.digests[record.id] = hashlib.sha256(line).digest()
        writer.append(f"{self.prefix}/{kind}", line)
        return True

    def records(self, kind: str) -> dict[str, Any]:
        """The first record of each id, in the order in which they were recorded."""
        with self._lock:
            out = dict(self._load(kind).records)
            for key, record in self._mine[kind].records.items():
                out.setdefault(key, record)
            return out

    def flush(self, within: float | None = None) -> None:
        """Come back when everything appended is safe in the store; raises if an upload failed."""
        self._connection.writing().flush(self.prefix, within)

    # folders

    def put_dir(self, name: str, local_dir: str | os.PathLike[str]) -> list[Part]:
        """Keep a folder's files with their digests. Until the commit one put later takes the place of the former."""
        _check_name(name)
        top = os.fspath(local_dir)
        content = {
            os.path.relpath(os.path.join(base, f), top).replace(os.sep, "/"): file_digest(os.path.join(base, f))
            for base, _, files in os.walk(top)
            for f in files
        }
        if not content:
            raise StorageError(f"{name}: there is no file to keep in {top}")
        with self._lock:
            self._connection.writing()
            folder = f"{self.prefix}/{name}/e{self._connection.epoch:06d}-{digest(content)[:12]}"
            there = self.get(_index(name))
            if there and {f["name"]: f["sha256"] for f in there["files"]} == content:
                return listed(there)
            if self._connection.hold:
                self._connection.hold.check()
            parts = self._store.upload_dir(top, folder)
            if there:
                self.discard(name)
            files = [{"name": p.path[len(folder) + 1 :], "size": p.size, "sha256": p.sha256} for p in parts]
            self.put(_index(name), {"folder": folder, "files": files})
            self._uploaded.update(p.path for p in parts)
            return parts

    def get_dir(self, name: str, local_dir: str | os.PathLike[str]) -> list[Part]:
        """Fetch a folder that was kept; a file that is not what was kept raises."""
        index = self.get(_index(name))
        if index is None:
            raise Missing(f"{self._store.uri(f'{self.prefix}/{name}')}: no such folder was kept")
        sizes = {e.path: e.size for e in self._store.list(f"{index['folder']}/")}
        wanted = [(f"{index['folder']}/{f['name']}", f["name"], f["size"]) for f in index["files"]]
        gone = [path for path, _, _ in wanted if path not in sizes]
        if gone:
            raise Damaged(f"{self._store.uri(gone[0])} is gone", hint=codec.MEND)
        wanted = [(path, name, sizes[path]) for path, name, _ in wanted]
        parts = self._store.download(wanted, local_dir)
        for part, file in zip(parts, index["files"], strict=True):
            if part.sha256 != file["sha256"] and not self._connection.is_redacted(part):
                os.unlink(os.path.join(os.fspath(local_dir), *file["name"].split("/")))
                raise Damaged(f"{self._store.uri(part.path)} is damaged: it has another digest", hint=codec.MEND)
        return parts

    # the commit

    def commit(self, extra: Mapping[str, Any] | None = None) -> str:
        """Check every part, then write the manifest, last and once. Comes back with its digest."""
        with self._lock:
            self.flush()
            hold = self._connection.hold
            assert hold, "writing() would have refused"
            hold.confirm()
            if self.manifest() is None:
                value = self._result(extra or {})
                self._create(MANIFEST, value)
                # somebody may have taken over between the question and the write: then it does not count
                hold.confirm()
                self._manifest = value
            return digest(self.manifest())

    def manifest(self) -> dict[str, Json] | None:
        """The manifest if the round is committed and every part that it lists is there in its size."""
        with self._lock:
            if self._manifest is None and not self._is_open:
                for path in self._paths(MANIFEST):
                    found = self._read_part(path)
                    if found and self._is_whole(found.value):
                        self._manifest = found.value
                        break
                # nobody but its driver can commit a round
                self._is_open = self._manifest is None and self._connection.hold is not None
            return self._manifest

    def manifest_path(self) -> str | None:
        """Where the manifest that counts stands."""
        for path in self._paths(MANIFEST):
            found = self._read_part(path)
            if found and self._is_whole(found.value):
                return path
        return None

    def forget(self) -> None:
        """Look everything up again: somebody rewrote what had been read."""
        with self._lock:
            self._manifest, self._is_open = None, False
            self._values.clear()
            self._stored.clear()

    # inside

    def _result(self, extra: Mapping[str, Any]) -> dict[str, Json]:
        entries = {e.path: e for e in self._store.list(f"{self.prefix}/")}
        parts: dict[str, Part] = {}
        records: dict[str, Json] = {}
        for kind in KINDS:
            loaded, mine = self._load(kind), self._mine[kind]
            parts |= loaded.parts
            digests = mine.digests | loaded.digests
            if digests and kind != "discards":
                records[kind] = {"count": len(digests), "digest": _together(digests)}
        parts |= {p: part for p, part in self._connection.writing().landed.items() if p.startswith(f"{self.prefix}/")}
        values: dict[str, Json] = {}
        for name in self._names(entries):
            found = self._find(name)
            if found is None or name == MANIFEST or name.startswith(WORKING):
                continue
            parts[found.path] = found.part
            values[name] = found.digest
            if name.endswith(_index("")):
                kept = listed(found.value)
                values[name] = digest({f["name"]: f["sha256"] for f in found.value["files"]})
                self._check_bytes([p for p in kept if p.path not in self._uploaded])
                parts |= {p.path: p for p in kept}
        for part in parts.values():
            if part.path not in entries or entries[part.path].size != part.size:
                was = entries[part.path].size if part.path in entries else "nothing"
                raise LedgerError(
                    f"{self._store.uri(part.path)} has {was} and not {part.size} bytes; the round is not committed",
                    hint="start the same command again: what is missing is done again",
                )
        value = {
            "round": self.number,
            "epoch": self._connection.epoch,
            "parts": [encode(parts[p]) for p in sorted(parts)],
            "records": records,
            "values": values,
        }
        more = encode(dict(extra))
        for key in value.keys() & more.keys():
            assert value[key] == more[key], f"the manifest has a {key} of its own"
        return more | value

    def _check_bytes(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if self._store.part(part.path) != part:
                raise Damaged(f"{self._store.uri(part.path)} is damaged: it has another digest", hint=codec.MEND)

    def _create(self, name: str, value: Json) -> None:
        """Under its name, or beside what has the name and does not count."""
        epoch = self._connection.epoch
        data = codec.pack_part(name, epoch, value)
        stem = self._stem(name)
        aside = self._load("discards").records.keys() | self._mine["discards"].records.keys()
        for attempt in range(ATTEMPTS):
            path = f"{stem}{['', f'.e{epoch:06d}'][attempt] if attempt < 2 else f'.e{epoch:06d}-{attempt}'}.json"
            if path in aside:
                continue
            try:
                self._connection.create(path, data)
                return
            except AlreadyThere:
                continue
        raise LedgerError(f"{self._store.uri(stem)}: {ATTEMPTS} objects of that name are in the way", hint=codec.MEND)

    def _find(self, name: str) -> _Found | None:
        manifest = self.manifest() if name != MANIFEST else None
        if manifest:
            parts = {p["path"]: Part(**p) for p in manifest["parts"]}
            for path in same_name(parts, self._stem(name)):
                return self._read_committed(parts[path])
            if not name.startswith(WORKING):
                return None
        aside = self._load("discards").records.keys() | self._mine["discards"].records.keys()
        for path in self._paths(name):
            if path not in aside and (found := self._read_part(path)):
                return found
        return None

    def _read_committed(self, part: Part) -> _Found:
        data = self._store.read(part.path)
        now = Part(part.path, len(data), codec.sha256(data))
        if now != part and not self._connection.is_redacted(now):
            raise Damaged(f"{self._store.uri(part.path)} is damaged: it has another digest", hint=codec.MEND)
        value, _ = codec.unpack_part(data, self._store.uri(part.path))
        return _Found(part.path, value, now, digest(value))

    def _read_part(self, path: str) -> _Found | None:
        """The part if it counts; None for what is damaged, gone, or of a driver that had been replaced."""
        try:
            data = self._store.read(path)
            value, envelope = codec.unpack_part(data, self._store.uri(path))
        except (Missing, Damaged) as error:
            self._note(str(error))
            return None
        if not self._connection.counts(path, envelope["epoch"]):
            return None
        return _Found(path, value, Part(path, len(data), codec.sha256(data)), digest(value))

    def _paths(self, name: str) -> list[str]:
        return same_name((e.path for e in self._store.list(self._stem(name) + ".")), self._stem(name))

    def _stem(self, name: str) -> str:
        return f"{self.prefix}/{name.removesuffix('.json')}"

    def _names(self, entries: Mapping[str, StoredObject]) -> list[str]:
        tops = [p[len(self.prefix) + 1 :] for p in entries]
        return sorted({f"{m['stem']}.json" for t in tops if "/" not in t and (m := NAME.fullmatch(t))})

    def _load(self, kind: str) -> _Kind:
        """What the store holds of a kind, but for what this driver itself has written."""
        if kind not in self._stored or not (self._connection.hold or self._manifest):
            self._stored[kind] = self._read_kind(kind)
        return self._stored[kind]

    def _read_kind(self, kind: str) -> _Kind:
        folder = f"{self.prefix}/{kind}"
        manifest = self.manifest() if kind != "discards" else None
        if manifest:
            wanted = {p["path"]: Part(**p) for p in manifest["parts"] if p["path"].startswith(f"{folder}/")}
            paths = sorted(wanted)
        else:
            wanted, paths = {}, self._counting(folder)
        out = _Kind()
        read = DECODERS[kind]
        for path, data in zip(paths, self._store.read_many(paths), strict=True):
            try:
                if isinstance(data, StorageError):
                    raise data
                part = Part(path, len(data), codec.sha256(data))
                if path in wanted and part != wanted[path] and not self._connection.is_redacted(part):
                    raise Damaged(f"{self._store.uri(path)} is damaged: it has another digest", hint=codec.MEND)
                header, lines = codec.unpack_segment(data, self._store.uri(path))
                if (folder, header["epoch"], header["number"]) != parse(path):
                    raise Damaged(f"{self._store.uri(path)} is damaged: it is another segment", hint=codec.MEND)
            except (Missing, Damaged) as error:
                if manifest:
                    raise
                self._note(str(error))
                continue
            out.parts[path] = part
            self._take(out, kind, header, lines, read, path)
        return out

    def _take(
        self, out: _Kind, kind: str, header: Mapping[str, Json], lines: list[bytes], read: Any, path: str
    ) -> None:
        try:
            for line, data in zip(lines, json.loads(b"[" + b",".join(lines) + b"]"), strict=True):
                record = read(codec.migrate(kind, header["schema"], data))
                if record.id not in out.records:
                    out.records[record.id] = record
                    out.digests[record.id] = hashlib.sha256(line).digest()
        except ValueError as error:
            raise LedgerError(
                f"{self._store.uri(path)}: {error}", hint="it was written by another version of seal_ray; use that one"
            ) from None

    def _counting(self, folder: str) -> list[str]:
        """The folder's segments that count, without this driver's own."""
        seen = self._connection.seen()
        own = self._connection.hold.epoch if self._connection.hold else None
        found = [e.path for e in self._store.list(f"{folder}/") if seen.accepts(e.path)]
        there = set(found)
        for epoch, number in seen.expected(folder):
            path = f"{folder}/e{epoch:06d}-{number:08d}.jsonl"
            if path not in there:
                self._note(f"{self._store.uri(path)} is gone")
        return [p for p in found if (s := parse(p)) and s[1] != own]

    def _is_whole(self, manifest: Mapping[str, Json]) -> bool:
        sizes = {e.path: e.size for e in self._store.list(f"{self.prefix}/")}
        for p in manifest["parts"]:
            if sizes.get(p["path"]) != p["size"] and not self._was_redacted(p["path"], sizes):
                self._note(f"{self._store.uri(p['path'])} is gone or has another size than its round's manifest says")
                return False
        return True

    def _was_redacted(self, path: str, sizes: Mapping[str, int]) -> bool:
        return path in sizes and self._connection.is_redacted(self._store.part(path))

    def _note(self, message: str) -> None:
        if message not in self.damage:
            self.damage.append(message)
            self._connection.warn(message)


def same_name(paths: Iterable[str], stem: str) -> list[str]:
    """Those of the paths that stand for the part of that name, the plain one first."""
    pattern = re.compile(re.escape(stem) + r"(\.e\d{6}(-\d+)?)?\.json")
    return sorted((p for p in paths if pattern.fullmatch(p)), key=lambda p: (len(p), p))


def _index(folder: str) -> str:
    return f"{folder}.files.json"


def listed(index: Mapping[str, Json]) -> list[Part]:
    """The files of a kept folder, from its index."""
    return [Part(f"{index['folder']}/{f['name']}", f["size"], f["sha256"]) for f in index["files"]]


def _together(digests: Mapping[str, bytes]) -> str:
    """One digest for a set of records, whatever their order and their segments."""
    whole = hashlib.sha256()
    for key in sorted(digests):
        whole.update(digests[key])
    return whole.hexdigest()


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise LedgerError(f"{name!r} is no name for a part: letters, digits, '.', '-' and '_'")

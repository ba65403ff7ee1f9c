"""One round in the ledger: its named parts, its records in segments, its folders, and the manifest that commits it."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from seal_ray.errors import AlreadyThere, LedgerError, Missing, StorageError
from seal_ray.records import Json, canonical, digest, encode
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.connection import Connection
from seal_ray.storage.local_files import files_below
from seal_ray.storage.objects import Part, file_digest
from seal_ray.storage.round_parts import MANIFEST, WORKING, NamedPart, RoundParts, check_name, folder_index, listed
from seal_ray.storage.round_records import Discard, RoundRecords


class RoundLedger:
    """A round's record. Reading needs nothing; writing needs the run to be held."""

    def __init__(self, connection: Connection, number: int) -> None:
        if number < 1:
            raise LedgerError(f"{number} is not a round: they are counted from 1")
        self.number = number
        self.prefix = f"rounds/{number:04d}"
        self.damage: dict[str, None] = {}  # what was passed over because it is damaged or gone
        self._connection, self._store = connection, connection.store
        self._lock = threading.RLock()
        self._records = RoundRecords(connection, self.prefix, self.manifest, self._note, self._lock)
        self._parts = RoundParts(connection, self.prefix, self.manifest, self._records.set_aside, self._note)
        self._values: dict[str, Json] = {}
        self._uploaded: set[str] = set()
        self._manifest: dict[str, Json] | None = None
        self._is_open = False  # known to have no manifest

    # named parts

    def put(self, name: str, value: Any) -> None:
        """Write a part once. Everything appended before it is safe in the store first."""
        check_name(name)
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
            self._parts.create(name, value)
            self._values[name] = value
            if hold := self._connection.hold:
                hold.confirm()  # the heartbeat vouches for what is written

    def get(self, name: str) -> Json | None:
        """The part's value, or None where there is none that counts."""
        check_name(name)
        with self._lock:
            if name in self._values:
                return self._values[name]
            part = self._parts.get(name)
            if part is None:
                return None
            if self._connection.hold:
                self._values[name] = part.value
            return part.value

    def discard(self, name: str) -> None:
        """Set a part or a folder aside, so that it can be made again. A committed round stays as it is."""
        with self._lock:
            if self.manifest() is not None:
                raise LedgerError(f"{self._store.uri(self.prefix)} is committed: {name} can't be set aside")
            name = name if name.endswith(".json") else folder_index(name)
            for path in self._parts.paths(name):
                self.append("discards", Discard(path))
            self.flush()
            self._values.pop(name, None)

    # records

    def append(self, kind: str, record: Any) -> bool:
        """Take a record, at once; it is in the store soon, and surely after `flush`. False: the id was there before."""
        return self._records.append(kind, record)

    def append_together(self, kind: str, records: Sequence[Any]) -> int:
        """The same for records of which a driver that dies leaves all or none; how many were not there before."""
        return self._records.append_together(kind, records)

    def records(self, kind: str) -> dict[str, Any]:
        """The first record of each id, in the order in which they were recorded."""
        return self._records.all(kind)

    def flush(self, within: float | None = None) -> None:
        """Come back when everything appended is safe in the store; raises if an upload failed."""
        self._connection.writing().flush(self.prefix, within)

    # folders

    def put_dir(self, name: str, local_dir: str | os.PathLike[str]) -> list[Part]:
        """Keep a folder's files with their digests. Until the commit one put later takes the place of the former."""
        check_name(name)
        top = os.fspath(local_dir)
        content = {name: file_digest(os.path.join(top, *name.split("/"))) for name in files_below(top)}
        if not content:
            raise StorageError(f"{name}: there is no file to keep in {top}")
        with self._lock:
            self._connection.writing()
            folder = f"{self.prefix}/{name}/e{self._connection.epoch:06d}-{digest(content)[:12]}"
            there = self.get(folder_index(name))
            if there and {f["name"]: f["sha256"] for f in there["files"]} == content:
                return listed(there)
            if self._connection.hold:
                self._connection.hold.check()
            parts = self._store.upload_dir(top, folder)
            if there:
                self.discard(name)
            files = [{"name": p.path[len(folder) + 1 :], "size": p.size, "sha256": p.sha256} for p in parts]
            self.put(folder_index(name), {"folder": folder, "files": files})
            self._uploaded.update(p.path for p in parts)
            return parts

    def get_dir(self, name: str, local_dir: str | os.PathLike[str]) -> list[Part]:
        """Fetch a folder that was kept; a file that is not what was kept raises."""
        index = self.get(folder_index(name))
        if index is None:
            raise Missing(f"{self._store.uri(f'{self.prefix}/{name}')}: no such folder was kept")
        sizes = {e.path: e.size for e in self._store.list(f"{index['folder']}/")}
        wanted = [(f"{index['folder']}/{f['name']}", f["name"], f["size"]) for f in index["files"]]
        gone = [path for path, _, _ in wanted if path not in sizes]
        if gone:
            raise Damaged(f"{self._store.uri(gone[0])} is gone", hint=codec.DAMAGE_HINT)
        wanted = [(path, name, sizes[path]) for path, name, _ in wanted]
        parts = self._store.download(wanted, local_dir)
        for part, file in zip(parts, index["files"], strict=True):
            if part.sha256 != file["sha256"] and not self._connection.is_redacted(part):
                os.unlink(os.path.join(os.fspath(local_dir), *file["name"].split("/")))
                self._refuse_damaged(part)
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
                self._parts.create(MANIFEST, value)
                self._connection.committed = max(self.number, self._connection.committed)
                # somebody may have taken over between the question and the write: then it does not count
                hold.confirm()
                self._connection.forget(self.prefix)
                self._manifest = value
            return digest(self.manifest())

    def manifest(self) -> dict[str, Json] | None:
        """The manifest if the round is committed and every part that it lists is there in its size."""
        with self._lock:
            if self._manifest is None and not self._is_open:
                part = self._committed()
                self._manifest = part.value if part else None
                # nobody but its driver can commit a round
                self._is_open = self._manifest is None and self._connection.hold is not None
            return self._manifest

    def manifest_path(self) -> str | None:
        """Where the manifest that counts stands."""
        part = self._committed()
        return part.path if part else None

    def forget(self) -> None:
        """Look everything up again: somebody rewrote what had been read."""
        with self._lock:
            self._manifest, self._is_open = None, False
            self._values.clear()
            self._records.forget()

    # inside

    def _result(self, extra: Mapping[str, Any]) -> dict[str, Json]:
        parts, records = self._records.in_store()
        entries = {e.path: e for e in self._store.list(f"{self.prefix}/")}
        values: dict[str, Json] = {}
        for name in self._parts.names(entries):
            named = self._parts.get(name)
            if named is None or name == MANIFEST or name.startswith(WORKING):
                continue
            parts[named.path] = named.part
            values[name] = named.digest
            if name.endswith(folder_index("")):
                kept = listed(named.value)
                values[name] = digest({f["name"]: f["sha256"] for f in named.value["files"]})
                for part in kept:
                    if part.path not in self._uploaded and self._store.part(part.path) != part:
                        self._refuse_damaged(part)
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

    def _committed(self) -> NamedPart | None:
        parts = (self._parts.read(path) for path in self._parts.paths(MANIFEST))
        return next((p for p in parts if p and self._is_whole(p.value)), None)

    def _refuse_damaged(self, part: Part) -> None:
        raise Damaged(f"{self._store.uri(part.path)} is damaged: it has another digest", hint=codec.DAMAGE_HINT)

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
            self.damage[message] = None
            self._connection.warn(message)

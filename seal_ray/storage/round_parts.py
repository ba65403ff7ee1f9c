"""A round's named parts. Nothing is ever replaced: where a name is taken by something that does not count (torn, set
aside, or written by a driver that had been replaced), the next one stands beside it under the name with the epoch:
`gate.e000003.json`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from seal_ray.errors import AlreadyThere, LedgerError, Missing
from seal_ray.records import Json, digest
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.connection import Connection
from seal_ray.storage.objects import Part, StoredObject

EXTENSION = re.compile(r"(\.e\d{6}(-\d+)?)?\.json")
NAME = re.compile(r"(?P<stem>.+?)" + EXTENSION.pattern)
MANIFEST = "manifest.json"
WORKING = "checkpoint"  # folders whose name begins so serve the round's work and are no part of its result
ATTEMPTS = 1000


@dataclass(frozen=True)
class NamedPart:
    """A named part that counts."""

    path: str
    value: Json
    part: Part
    digest: str


class RoundParts:
    """`manifest` says what a committed round holds; `note` takes what was passed over because it is damaged or gone."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        manifest: Callable[[], Mapping[str, Json] | None],
        set_aside: Callable[[], set[str]],
        note: Callable[[str], None],
    ) -> None:
        self._connection, self._store, self._prefix = connection, connection.store, prefix
        self._manifest, self._set_aside, self._note = manifest, set_aside, note

    def get(self, name: str) -> NamedPart | None:
        """The part that counts under that name."""
        manifest = self._manifest() if name != MANIFEST else None
        if manifest:
            committed = {p["path"]: Part(**p) for p in manifest["parts"]}
            for path in same_name(committed, self._stem(name)):
                return self._read_committed(committed[path])
            if not name.startswith(WORKING):
                return None
        aside = self._set_aside()
        for path in self.paths(name):
            if path not in aside and (part := self.read(path)):
                return part
        return None

    def read(self, path: str) -> NamedPart | None:
        """The part if it counts; None for what is damaged, gone, or of a driver that had been replaced."""
        try:
            data = self._store.read(path)
            value, epoch = codec.unpack_part(data, path, self._store.uri(path))
        except (Missing, Damaged) as error:
            self._note(str(error))
            return None
        if not self._connection.counts(path, epoch):
            return None
        return NamedPart(path, value, Part(path, len(data), codec.sha256(data)), digest(value))

    def create(self, name: str, value: Json) -> None:
        """Under its name, or beside what has the name and does not count."""
        epoch, stem, aside = self._connection.epoch, self._stem(name), self._set_aside()
        for attempt in range(ATTEMPTS):
            path = f"{stem}{['', f'.e{epoch:06d}'][attempt] if attempt < 2 else f'.e{epoch:06d}-{attempt}'}.json"
            if path in aside:
                continue
            try:
                self._connection.create(path, codec.pack_part(path, epoch, value))
                return
            except AlreadyThere:
                continue
        hint = codec.DAMAGE_HINT
        raise LedgerError(f"{self._store.uri(stem)}: {ATTEMPTS} objects of that name are in the way", hint=hint)

    def paths(self, name: str) -> list[str]:
        """Every object that stands under that name, the plain one first."""
        return same_name((e.path for e in self._store.list(self._stem(name) + ".")), self._stem(name))

    def names(self, entries: Mapping[str, StoredObject]) -> list[str]:
        """The names of the parts among a round's objects."""
        tops = [p[len(self._prefix) + 1 :] for p in entries]
        return sorted({f"{m['stem']}.json" for t in tops if "/" not in t and (m := NAME.fullmatch(t))})

    def _read_committed(self, part: Part) -> NamedPart:
        data, uri = self._store.read(part.path), self._store.uri(part.path)
        now = Part(part.path, len(data), codec.sha256(data))
        if now != part and not self._connection.is_redacted(now):
            raise Damaged(f"{uri} is damaged: it has another digest", hint=codec.DAMAGE_HINT)
        value, _ = codec.unpack_part(data, part.path, uri)
        return NamedPart(part.path, value, now, digest(value))

    def _stem(self, name: str) -> str:
        return f"{self._prefix}/{name.removesuffix('.json')}"


def same_name(paths: Iterable[str], stem: str) -> list[str]:
    """Those of the paths that stand for the part of that name, the plain one first."""
    same = (p for p in paths if p.startswith(stem) and EXTENSION.fullmatch(p, len(stem)))
    return sorted(same, key=lambda p: (len(p), p))


def folder_index(name: str) -> str:
    """The name of the part that lists a kept folder's files."""
    return f"{name}.files.json"


def listed(index: Mapping[str, Json]) -> list[Part]:
    """The files of a kept folder, from its index."""
    return [Part(f"{index['folder']}/{f['name']}", f["size"], f["sha256"]) for f in index["files"]]


def check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise LedgerError(f"{name!r} is no name for a part: letters, digits, '.', '-' and '_'")

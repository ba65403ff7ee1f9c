"""Many input files by one name: a file, a folder, a pattern or a URI, in an order that never changes."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from seal_ray.config import StorageSection
from seal_ray.errors import DataError, Missing
from seal_ray.storage.input_files import read_document

PATTERN = "*?["  # a name that holds one of these is a pattern


@dataclass(frozen=True)
class InputFile:
    """A file that can be read: what to show, what to read, and how large it is."""

    name: str  # relative to the folder that was asked for
    uri: str
    size: int


class InputReader:
    """Reads documents, and says which there are. What a domain is handed as `read`."""

    def __init__(self, settings: StorageSection) -> None:
        self._settings = settings

    def __call__(self, uri: str) -> bytes:
        return read_document(uri, self._settings)

    def files(self, source: str) -> list[InputFile]:
        """The files of a source. Hidden ones are passed over, and no link leads out of a folder."""
        if "://" in source and not source.startswith("file://"):
            return sorted(_remote(source, self._settings), key=lambda f: f.name)
        path = os.path.expanduser(source.removeprefix("file://"))
        if os.path.isfile(path):
            return [InputFile(_shown(os.path.basename(path)), path, os.path.getsize(path))]
        if os.path.isdir(path):
            return sorted(_below(path), key=lambda f: f.name)
        if set(PATTERN) & set(path):
            return sorted(_matching(path), key=lambda f: f.name)
        if os.path.exists(path):
            raise DataError(f"{source} is neither a file nor a folder", hint="give a file, a folder or a pattern")
        raise DataError(f"there is no {source}", hint="check the path; it counts from where the command runs")


def _below(folder: str) -> Iterator[InputFile]:
    top = os.path.realpath(folder)
    for base, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in names:
            path = os.path.join(base, name)
            inside = os.path.realpath(path).startswith(top + os.sep)
            if not name.startswith(".") and inside and os.path.isfile(path):
                yield InputFile(_shown(os.path.relpath(path, folder)), path, os.path.getsize(path))


def _refuse(error: OSError) -> None:
    """Nobody knows what a folder holds that can't be listed; one that went away meanwhile holds nothing."""
    if not isinstance(error, FileNotFoundError):
        raise DataError(
            f"{_shown(error.filename)} can't be listed: {error.strerror}",
            hint="allow this account to read it, or give a folder without it",
        )


def _matching(pattern: str) -> Iterator[InputFile]:
    fixed = pattern[: min(pattern.index(c) for c in PATTERN if c in pattern)]
    top = os.path.dirname(fixed)
    for path in glob.iglob(pattern, recursive=True):
        if os.path.isfile(path):
            yield InputFile(_shown(os.path.relpath(path, top or ".")), path, os.path.getsize(path))


def _shown(path: str) -> str:
    """A file's name as a record can hold it: bytes that are no UTF-8 are written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _remote(source: str, settings: StorageSection) -> list[InputFile]:
    if set(PATTERN) & set(source):
        fixed = source[: min(source.index(c) for c in PATTERN if c in source)]
        return [f for f in _objects_below(fixed.rpartition("/")[0], settings) if fnmatch(f.uri, source)]
    uri = source.rstrip("/")
    if Path(uri).suffix:  # as most files have and few folders
        return _object(uri, settings) or list(_objects_below(uri, settings))
    return list(_objects_below(uri, settings)) or _object(uri, settings)


def _objects_below(folder: str, settings: StorageSection) -> Iterator[InputFile]:
    from seal_ray.storage.store import Store  # its libraries cost half of a small command's time

    store = Store(folder, settings)
    try:
        for entry in store.list(""):
            hidden = any(part.startswith(".") for part in entry.path.split("/"))
            if entry.path and not hidden:  # some file systems list a file as if it were in itself, without a name
                yield InputFile(entry.path, f"{folder}/{entry.path}", entry.size)
    finally:
        store.close()


def _object(uri: str, settings: StorageSection) -> list[InputFile]:
    """The object of that very name, if there is one."""
    from seal_ray.storage.store import Store

    folder, _, name = uri.rpartition("/")
    if folder.endswith(":/"):
        return []  # a bucket
    store = Store(folder, settings)
    try:
        return [InputFile(name, uri, store.info(name).size)]
    except Missing:
        return []
    finally:
        store.close()

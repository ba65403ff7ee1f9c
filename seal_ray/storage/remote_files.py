"""Objects of any fsspec file system."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from seal_ray.storage.objects import StoredObject

SLOWEST = 1_000_000  # bytes per second that a store must move before a transfer counts as stalled


CHUNK = 8_000_000


def known_protocols() -> list[str]:
    return fsspec.available_protocols()


def file_system(protocol: str, **options: Any) -> Any:
    """An fsspec file system whose listings never come from a cache."""
    return fsspec.filesystem(protocol, use_listings_cache=False, **options)


class RemoteFiles:
    """Objects of any fsspec file system."""

    remote = True

    def __init__(self, fs: Any, root: str, timeout: float) -> None:
        self.fs, self.root, self.timeout = fs, root.rstrip("/"), timeout
        self._threads = isinstance(fs, AsyncFileSystem)

    def read(self, key: str) -> bytes:
        return self.fs.cat_file(self._path(key), **self._limit(10 * CHUNK))

    def write(self, key: str, data: bytes) -> None:
        self._folder(key)
        self.fs.pipe_file(self._path(key), data, **self._limit(len(data)))

    def create(self, key: str, data: bytes) -> None:
        self._folder(key)
        self.fs.pipe_file(self._path(key), data, mode="create", **self._limit(len(data)))

    def info(self, key: str) -> StoredObject:
        told = self.fs.info(self._path(key), **self._limit(0))
        if told["type"] != "file":
            raise FileNotFoundError(key)
        return self._entry(key, told)

    def entries(self, prefix: str) -> Iterable[StoredObject]:
        folder = prefix.rpartition("/")[0]
        self.fs.invalidate_cache()
        told = self.fs.find(self._path(folder), detail=True, **self._limit(0))
        skip = len(self._path("").rstrip("/")) + 1
        return [self._entry(p[skip:], i) for p, i in told.items() if p[skip:].startswith(prefix)]

    def names(self, prefix: str) -> Sequence[str]:
        return sorted({e.path[len(prefix) :].split("/")[0] for e in self.entries(prefix)})

    def delete(self, key: str) -> None:
        self.fs.rm_file(self._path(key), **self._limit(0))

    def now(self) -> float:
        key = f".clock-{uuid.uuid4().hex}"
        self.write(key, b"")
        stamp = self.info(key).modified
        self.delete(key)
        return stamp or time.time()

    def upload(self, source: str, key: str) -> None:
        self._folder(key)
        self.fs.put_file(source, self._path(key), mode="create", **self._limit(os.path.getsize(source)))

    def download(self, key: str, target: str) -> None:
        with self.fs.open(self._path(key), "rb") as remote, open(target, "wb") as local:
            shutil.copyfileobj(remote, local, CHUNK)

    def _wait(self, call: Callable[[], Any]) -> Any:
        """The result of a coroutine in the file system's own loop."""
        return sync(self.fs.loop, call)

    def _path(self, key: str) -> str:
        return self.fs._strip_protocol(f"{self.root}/{key}" if key else self.root)

    def _folder(self, key: str) -> None:
        if not self._threads:
            self.fs.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)

    def _limit(self, size: int) -> dict[str, float]:
        # fsspec's asynchronous file systems take a limit for the whole call; the others have none to set
        return {"timeout": self.timeout + size / SLOWEST} if self._threads else {}

    def _entry(self, key: str, told: dict[str, Any]) -> StoredObject:
        stamp = next((told[k] for k in ("LastModified", "mtime", "updated", "modified", "created") if told.get(k)), 0.0)
        if isinstance(stamp, str):
            stamp = datetime.fromisoformat(stamp)
        when = stamp.timestamp() if isinstance(stamp, datetime) else float(stamp)
        tag = str(told.get("ETag") or told.get("etag") or f"{when}-{told['size']}")
        return StoredObject(key, int(told["size"]), tag, when)

"""The models that a node keeps: each is fetched once, by one process, whole or not at all, under a size limit.

An entry is a folder `models/<key>` that appears by a rename. Whoever uses one holds a shared lock on `<key>.lock` for
as long as its process lives, so that the least recently used entry can be thrown out without asking who reads it.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO

from seal_ray.errors import ConfigError, InfraError
from seal_ray.redaction import logger

log = logger(__name__)
GIB = 1024**3

# the locks that this process holds on the entries that it uses; the kernel lets go of them however the process ends
_in_use: dict[Path, IO[bytes]] = {}


def default_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-ray"


class ModelCache:
    """A folder of models on this node, shared by every process that runs there."""

    def __init__(self, root: str | Path = "", limit_gb: float = 200, deadline: float = 3600) -> None:
        self.root = Path(root).expanduser().absolute() if root else default_root()
        self.limit = limit_gb * GIB
        self.deadline = deadline
        try:
            for folder in (self.models, self.root / "making"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"model.cache: {self.root} can't be used: {error.strerror}", hint="name a folder that can be written"
            ) from None

    @property
    def models(self) -> Path:
        return self.root / "models"

    def key(self, name: str, content: str, *, described: bool = False) -> str:
        """A readable folder name that is unique to a model's name and content, or to the description of these."""
        content += " described" if described else ""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
        return f"{slug}-{sha256(f'{name} {content}'.encode()).hexdigest()[:16]}"

    def folder(self, key: str) -> Path:
        """Where an entry is, or will be."""
        return self.models / key

    def take(self, key: str, make: Callable[[Path], None]) -> Path:
        """The entry's folder, made by `make` in an empty folder if it is not there; held until the process ends."""
        folder = self.folder(key)
        until = time.monotonic() + self.deadline
        while not self._hold(key):
            with self._lock(key) as lock:
                self._wait(lock, fcntl.LOCK_EX, until, key)
                if not folder.exists():
                    self._make(key, make)
        return folder

    def held(self, key: str) -> bool:
        """Whether the entry is there; if it is, this process now holds it."""
        return self._hold(key)

    def _hold(self, key: str) -> bool:
        folder = self.folder(key)
        lock = _in_use.get(folder)
        if lock is None:
            lock = self._lock(key)
            self._wait(lock, fcntl.LOCK_SH, time.monotonic() + self.deadline, key)
        # only now can nobody take it away
        if not folder.is_dir():
            _in_use.pop(folder, None)
            lock.close()
            return False
        _in_use[folder] = lock
        os.utime(lock.fileno())
        return True

    def _make(self, key: str, make: Callable[[Path], None]) -> None:
        making = self.root / "making" / key
        shutil.rmtree(making, ignore_errors=True)  # what a process that was killed left behind
        making.mkdir()
        try:
            make(making)
            size = _size(making)
            if size > self.limit:
                raise ConfigError(
                    f"model.cache_gb: {self.limit / GIB:g} GB do not hold this model of {size / GIB:.2f} GB",
                    hint="raise model.cache_gb",
                )
            self._evict(size, spare=key)
            os.rename(making, self.folder(key))
        except OSError as error:
            raise InfraError(
                f"model cache {self.root}: {error.strerror or error}", hint="free space there or set model.cache"
            ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _evict(self, coming: float, spare: str) -> None:
        """Throw out the least recently used entries that nobody holds, until `coming` bytes more fit."""
        entries = []
        for folder in self.models.iterdir():
            if folder.is_dir() and folder.name != spare:
                lock = self._lock_path(folder.name)
                entries.append((lock.stat().st_mtime if lock.exists() else 0.0, folder, _size(folder)))
        total = coming + sum(size for _, _, size in entries)
        for _, folder, size in sorted(entries, key=lambda e: e[:2]):
            if total <= self.limit:
                return
            with self._lock(folder.name) as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                # away by a rename, so that no half of a model is ever taken for a whole one
                going = self.root / "making" / f"evicted-{folder.name}"
                shutil.rmtree(going, ignore_errors=True)
                os.rename(folder, going)
                shutil.rmtree(going, ignore_errors=True)
                total -= size
                log.info("model cache: %s was not in use and made room (%.2f GB)", folder.name, size / GIB)
        if total > self.limit:
            log.warning(
                "model cache %s: %.1f GB, all in use, are over its limit of %g GB (model.cache_gb)",
                self.root,
                total / GIB,
                self.limit / GIB,
            )

    def _lock_path(self, key: str) -> Path:
        return self.models / f"{key}.lock"

    def _lock(self, key: str) -> IO[bytes]:
        return open(self._lock_path(key), "ab")

    def _wait(self, lock: IO[bytes], kind: int, until: float, key: str) -> None:
        while True:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise InfraError(
                        f"model cache {self.root}: another process has held {key} for {self.deadline:.0f} s",
                        hint="see whether a process of this node hangs while it fetches a model",
                    ) from None
                time.sleep(0.05)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())

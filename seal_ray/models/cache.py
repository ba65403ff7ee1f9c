"""The models that a node keeps: each is fetched once, by one process, whole or not at all, under a size limit.

An entry is a folder `models/<key>` that appears by a rename. Whoever uses one holds a shared lock on `<key>.lock` for
as long as its process lives, so that the least recently used entry can be thrown out without asking who reads it. The
lock goes with its entry, and what a process that was killed left behind goes when the next entry is made. What has no
such lock beside it is somebody else's, and stays.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO

from seal_ray.cache_folder import default_root
from seal_ray.errors import ConfigError, InfraError
from seal_ray.models import file_lock
from seal_ray.redaction import logger

log = logger(__name__)
GIB = 1024**3

# the locks that this process holds on the entries that it uses; the kernel lets go of them however the process ends
_in_use: dict[Path, IO[bytes]] = {}


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
        while not self._hold(key, until):
            lock = file_lock.attempt(self._lock_path(key))
            if lock is None:  # whoever makes it holds it afterwards, and then it is there for us as well
                self._wait(key, until)
                continue
            with lock:
                try:
                    if not folder.exists():
                        self._make(key, make)
                finally:
                    if not folder.exists():
                        self._lock_path(key).unlink(missing_ok=True)
        return folder

    def held(self, key: str) -> bool:
        """Whether the entry is there; if it is, this process now holds it."""
        return self._hold(key, time.monotonic() + self.deadline)

    def _hold(self, key: str, until: float) -> bool:
        folder = self.folder(key)
        lock = _in_use.pop(folder, None)
        if lock is None and folder.is_dir():
            while (lock := file_lock.attempt(self._lock_path(key), shared=True)) is None:
                self._wait(key, until)
        if lock is None:
            return False
        # only now can nobody take it away
        if not folder.is_dir():
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
            self._sweep()
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
        entries = [
            (_last_use(self._lock_path(folder.name)), folder, _size(folder))
            for key in self._locked() - {spare}
            if (folder := self.folder(key)).is_dir()
        ]
        total = coming + sum(size for _, _, size in entries)
        for _, folder, size in sorted(entries, key=lambda e: e[:2]):
            if total <= self.limit:
                return
            if self._remove(folder.name):
                total -= size
                log.info("model cache: %s was not in use and made room (%.2f GB)", folder.name, size / GIB)
        if total > self.limit:
            log.warning(
                "model cache %s: %.1f GB, all in use, are over its limit of %g GB (model.cache_gb)",
                self.root,
                total / GIB,
                self.limit / GIB,
            )

    def _sweep(self) -> None:
        """Remove the locks of entries that are gone, and what was killed while it was made or thrown out."""
        for key in sorted(self._locked()):
            if not self.folder(key).exists():
                self._remove(key, only_half=True)

    def _remove(self, key: str, *, only_half: bool = False) -> bool:
        """Remove an entry and its lock; False, and nothing happens, while a process uses or makes it."""
        lock = file_lock.attempt(self._lock_path(key))
        if lock is None:
            return False
        with lock:
            whole, half = self.folder(key), self.root / "making" / key
            shutil.rmtree(half, ignore_errors=True)
            if whole.exists() and not only_half:
                # away by a rename, so that no half of a model is ever taken for a whole one
                os.rename(whole, half)
                shutil.rmtree(half, ignore_errors=True)
            if not whole.exists():
                self._lock_path(key).unlink(missing_ok=True)
        return True

    def _locked(self) -> set[str]:
        """The keys of entries and of halves; a lock of ours is an empty file."""
        return {path.name.removesuffix(".lock") for path in self.models.glob("*.lock") if _is_empty(path)}

    def _lock_path(self, key: str) -> Path:
        return self.models / f"{key}.lock"

    def _wait(self, key: str, until: float) -> None:
        """A moment, until another process lets go of the entry."""
        if time.monotonic() > until:
            raise InfraError(
                f"model cache {self.root}: another process has held {key} for {self.deadline:.0f} s",
                hint="see whether a process of this node hangs while it fetches a model",
            )
        time.sleep(0.05)


def _last_use(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_empty(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except FileNotFoundError:
        return False


def _size(folder: Path) -> int:
    """Bytes of what is in it; of what another process removes meanwhile, nothing."""
    total = 0
    for inside, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(inside, name)).st_size
    return total

"""A folder on a disk with the guarantees of an object store: objects appear whole, and create-only is exclusive."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator

from seal_ray.storage.objects import StoredObject

CHUNK = 8_000_000
TEMPORARY = ".tmp-"  # how an object is called that is still being written


class LocalFiles:
    """Objects as files below `root`. Keys are relative paths with slashes."""

    remote = False

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    def read(self, key: str) -> bytes:
        with open(self._path(key), "rb") as file:
            return file.read()

    def write(self, key: str, data: bytes) -> None:
        with self._temporary(key, data) as temporary:
            os.replace(temporary, self._path(key))
        self._settle(key)

    def create(self, key: str, data: bytes) -> None:
        with self._temporary(key, data) as temporary:
            self._link(temporary, key)
        self._settle(key)

    def info(self, key: str) -> StoredObject:
        path = self._path(key)
        if os.path.isdir(path):
            raise FileNotFoundError(path)
        return _entry(key, os.stat(path))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        folder = prefix.rpartition("/")[0]
        for base, files in self._walk(self._path(folder) if folder else self.root):
            below = os.path.relpath(base, self.root).replace(os.sep, "/")
            for name in files:
                path = os.path.join(base, name)
                key = name if below == "." else f"{below}/{name}"
                if name.startswith(TEMPORARY) or not key.startswith(prefix):
                    continue
                with contextlib.suppress(FileNotFoundError):  # went away while we looked
                    yield _entry(key, os.stat(path))

    def _walk(self, top: str) -> Iterator[tuple[str, list[str]]]:
        """Every folder with its files, also behind symbolic links, each once."""
        known: set[tuple[int, int]] = set()
        for base, folders, files in os.walk(top, onerror=unless_gone, followlinks=True):
            try:
                stat = os.stat(base)
            except FileNotFoundError:  # went away while we looked
                continue
            if (stat.st_dev, stat.st_ino) in known:
                folders.clear()  # a link that leads back
                continue
            known.add((stat.st_dev, stat.st_ino))
            folders.sort()
            yield base, files

    def names(self, prefix: str) -> list[str]:
        try:
            names = os.listdir(self._path(prefix.rstrip("/")))
        except FileNotFoundError:
            return []
        return [n for n in names if not n.startswith(TEMPORARY)]

    def delete(self, key: str) -> None:
        os.unlink(self._path(key))

    def now(self) -> float:
        """The file server's time: on a network disk it is the server that stamps files."""
        probe = self._path(f"{TEMPORARY}clock-{uuid.uuid4().hex}")
        os.makedirs(self.root, exist_ok=True)
        with open(probe, "wb") as file:
            stamp = os.fstat(file.fileno()).st_mtime
        os.unlink(probe)
        return stamp

    def upload(self, source: str, key: str) -> None:
        """Create-only, from a file."""
        temporary = self._place(key)
        try:
            with open(source, "rb") as there, open(temporary, "wb", opener=_private) as here:
                shutil.copyfileobj(there, here, CHUNK)
            _sync(temporary)
            self._link(temporary, key)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        self._settle(key)

    def download(self, key: str, target: str) -> None:
        shutil.copyfile(self._path(key), target)

    def left_behind(self) -> Iterator[StoredObject]:
        """Files of writers that died."""
        for base, files in self._walk(self.root):
            for name in files:
                if name.startswith(TEMPORARY):
                    path = os.path.join(base, name)
                    with contextlib.suppress(FileNotFoundError):
                        yield _entry(os.path.relpath(path, self.root).replace(os.sep, "/"), os.stat(path))

    def _path(self, key: str) -> str:
        return os.path.join(self.root, *key.split("/")) if key else self.root

    def _place(self, key: str) -> str:
        folder = os.path.dirname(self._path(key))
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}")

    @contextlib.contextmanager
    def _temporary(self, key: str, data: bytes) -> Iterator[str]:
        path = self._place(key)
        try:
            with open(path, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _link(self, temporary: str, key: str) -> None:
        # a hard link either makes the whole file appear or fails because the name is taken; rename would replace
        os.link(temporary, self._path(key))

    def _settle(self, key: str) -> None:
        """The new name itself must survive a power cut as well."""
        folder = os.open(os.path.dirname(self._path(key)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def files_below(top: str) -> list[str]:
    """Every file below a folder, by its path from there. One that can't be listed is not taken for empty."""
    return sorted(
        os.path.relpath(os.path.join(base, name), top).replace(os.sep, "/")
        for base, _, files in os.walk(top, onerror=unless_gone)
        for name in files
    )


def unless_gone(error: OSError) -> None:
    """For `os.walk`, which else takes a folder that can't be listed for an empty one."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # nothing is below what is no folder
        raise error


def _private(path: str, flags: int) -> int:
    """A run holds its texts: its files are nobody's but the owner's and the group's, whatever the umask says."""
    return os.open(path, flags, 0o660)


def _entry(key: str, stat: os.stat_result) -> StoredObject:
    return StoredObject(key, stat.st_size, f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}", stat.st_mtime)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

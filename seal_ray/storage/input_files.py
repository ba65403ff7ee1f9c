"""One document by its path or URI: a data file, a prompt, a list of edits."""

import stat
from pathlib import Path

from seal_ray.config import StorageSection
from seal_ray.errors import DataError
from seal_ray.storage.store import Store

LIMIT = 4 << 30  # bytes: larger data is split, or streamed from its own reader


def read_document(uri: str, settings: StorageSection) -> bytes:
    """The bytes at a path or URI."""
    if "://" in uri and not uri.startswith("file://"):
        folder, _, name = uri.rpartition("/")
        store = Store(folder, settings)
        try:
            return store.read(name)
        finally:
            store.close()
    path = Path(uri.removeprefix("file://")).expanduser()
    try:
        found = path.stat()
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            raise DataError(f"{path} is a device", hint="give a file")
        if found.st_size > LIMIT:
            raise DataError(f"{path} has more than {LIMIT >> 30} GiB", hint="split it")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}", hint="check the path; it counts from where the command runs"
        ) from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None

"""One document by its path or URI, or one that the package brings: a data file, a prompt, a list of edits."""

import stat
from pathlib import Path

from seal_ray.config import StorageSection
from seal_ray.errors import DataError

BUILTIN = "builtin:"  # data that the package brings
DEMO = Path(__file__).parents[1] / "demo"
LIMIT = 4 << 30  # bytes: larger data is split, or streamed from its own reader


def read_document(uri: str, settings: StorageSection) -> bytes:
    """The bytes at a path or URI."""
    if uri.startswith(BUILTIN):
        return _from_package(uri)
    if "://" in uri and not uri.startswith("file://"):
        from seal_ray.storage.store import Store  # its libraries cost half of a small command's time

        folder, _, name = uri.rpartition("/")
        store = Store(folder, settings)
        try:
            return store.read(name)
        finally:
            store.close()
    path = Path(uri.removeprefix("file://")).expanduser()
    try:
        status = path.stat()
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            raise DataError(f"{path} is a device", hint="give a file")
        if status.st_size > LIMIT:
            raise DataError(f"{path} has more than {LIMIT >> 30} GiB", hint="split it")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}", hint="check the path; it counts from where the command runs"
        ) from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None


def _from_package(uri: str) -> bytes:
    there = {f.name.rpartition(".")[0]: f for f in DEMO.iterdir() if _is_data(f.name)}
    name = uri.removeprefix(BUILTIN)
    if name not in there:
        raise DataError(f"{uri}: the package brings no such data", hint=f"there is: {', '.join(sorted(there))}")
    return there[name].read_bytes()


def _is_data(name: str) -> bool:
    """Rows or a prompt; configurations are beside them."""
    return name.endswith((".json", ".txt"))

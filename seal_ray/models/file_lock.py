"""A lock on a file of this node that its holder may remove: who waited for it then has to ask again."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO


def attempt(path: Path, *, shared: bool = False) -> IO[bytes] | None:
    """The file, made if it is not there and locked until it is closed; None while somebody else holds it."""
    with contextlib.ExitStack() as unless_held:
        file = unless_held.enter_context(open(path, "ab"))
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if not _is_at(file, path):
            return None
        unless_held.pop_all()
        return file


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether others that open the path lock this very file: not if it was removed between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False

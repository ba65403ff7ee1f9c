"""Verdicts that were bought once, kept by their content so that nobody pays for them again."""

from collections.abc import Callable
from typing import Protocol

from seal_ray.errors import AlreadyThere, Missing


class VerdictCache(Protocol):
    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...

    def replace(self, key: str, data: bytes) -> None: ...


class StoredCache:
    """One small object for each verdict under a root; the root is whatever the store's three methods lead to."""

    def __init__(
        self,
        read: Callable[[str], bytes],
        create: Callable[[str, bytes], None],
        write: Callable[[str, bytes], None],
    ) -> None:
        self._read, self._create, self._write = read, create, write

    def get(self, key: str) -> bytes | None:
        try:
            return self._read(_path(key))
        except (Missing, FileNotFoundError):
            return None

    def put(self, key: str, data: bytes) -> None:
        try:
            self._create(_path(key), data)
        except (AlreadyThere, FileExistsError):
            return  # another process bought the same verdict; the first one stays

    def replace(self, key: str, data: bytes) -> None:
        """Put a verdict in the place of a damaged one, which would be bought again for ever."""
        self._write(_path(key), data)


def _path(key: str) -> str:
    return f"{key[:2]}/{key}.json"

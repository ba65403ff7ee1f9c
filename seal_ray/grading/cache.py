"""Verdicts that were bought once, kept by their content so that nobody pays for them again."""

from collections.abc import Callable
from typing import Protocol

from seal_ray.errors import AlreadyThere, Missing


class VerdictCache(Protocol):
    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...


class StoredCache:
    """One small object for each verdict under a root; the root is whatever `read` and `create` lead to."""

    def __init__(self, read: Callable[[str], bytes], create: Callable[[str, bytes], None]) -> None:
        self._read, self._create = read, create

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


def _path(key: str) -> str:
    return f"{key[:2]}/{key}.json"

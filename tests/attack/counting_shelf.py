"""A kind of store that holds as many objects as one likes and counts what is asked of it."""

import sys
from collections import Counter
from collections.abc import Iterator

from sortedcontainers import SortedDict

from seal_ray.storage.objects import StoredObject

PAGE = 1000  # names that S3 gives at a time


class CountingShelf:
    """Objects in memory, with the guarantees of a store (see `backends.Backend`)."""

    remote = False

    def __init__(self) -> None:
        self.objects = SortedDict()  # of bytes by key: to list a folder costs what is in it, as in a real store
        self.asked: Counter[str] = Counter()  # requests by kind; a listing is as many as it has pages

    def read(self, key: str) -> bytes:
        self.asked["read"] += 1
        return self._data(key)

    def write(self, key: str, data: bytes) -> None:
        self.asked["write"] += 1
        self.objects[key] = data

    def create(self, key: str, data: bytes) -> None:
        self.asked["create"] += 1
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = data

    def info(self, key: str) -> StoredObject:
        self.asked["look"] += 1
        return self._entry(key, self._data(key))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        listed = [self._entry(key, self.objects[key]) for key in self._keys(prefix)]
        self.asked["list"] += 1 + len(listed) // PAGE
        return iter(listed)

    def names(self, prefix: str) -> list[str]:
        names = {key[len(prefix) :].split("/")[0] for key in self._keys(prefix)}
        self.asked["list"] += 1 + len(names) // PAGE
        return sorted(names)

    def delete(self, key: str) -> None:
        self.asked["delete"] += 1
        del self.objects[key]

    def now(self) -> float:
        return 1e9

    def upload(self, source: str, key: str) -> None:
        with open(source, "rb") as file:
            self.create(key, file.read())

    def download(self, key: str, target: str) -> None:
        with open(target, "wb") as file:
            file.write(self.read(key))

    def _keys(self, prefix: str) -> Iterator[str]:
        return self.objects.irange(prefix, prefix + chr(sys.maxunicode))

    def _data(self, key: str) -> bytes:
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def _entry(self, key: str, data: bytes) -> StoredObject:
        return StoredObject(key, len(data), "", 1e9)

"""Files that go into S3 in several parts.

Two things are different from an object that goes up in one request. The reply to the request that completes an upload
may be lost, and the same request then says that there is no such upload; the object tells. And some servers honour a
create-only write for one request and not for the completion of an upload: so the name is claimed first, by a small
object that is create-only everywhere and holds the digest of what is to come.
"""

import contextlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from seal_ray.errors import AlreadyThere, StorageError
from seal_ray.storage.objects import Part, UnfinishedUpload, file_digest
from seal_ray.storage.s3_files import S3Files
from seal_ray.storage.store_errors import UploadGone

T = TypeVar("T")
LIMIT = 100 << 20  # bytes from which a file goes up in parts
PART = 32 << 20
SMALLEST = 5 << 20  # what S3 takes for a part that is not the last
AT_ONCE = 2  # parts of one file
AFRESH = 3  # uploads that the store may forget


class Retrying(Protocol):
    """What is needed of a `Store`."""

    def _do(self, operation: str, path: str, call: Callable[[], T], **nothing: T) -> T: ...
    def create(self, path: str, data: bytes) -> None: ...
    def delete(self, path: str) -> None: ...
    def exists(self, path: str) -> bool: ...
    def part(self, path: str) -> Part: ...
    def uri(self, path: str = "") -> str: ...


class LargeUploads:
    def __init__(self, store: Retrying, backend: S3Files) -> None:
        self._store, self._backend = store, backend
        self.limit = LIMIT
        self.part_size = PART

    def upload(self, source: str, path: str) -> None:
        """Create-only. The same content there is fine, other content is `AlreadyThere`."""
        digest = file_digest(source)
        try:
            self._store.create(claim(path), digest.encode())
        except AlreadyThere:
            raise AlreadyThere(f"upload {self._store.uri(path)}: something else is on its way there") from None
        if self._store.exists(path):
            return self._compare(path, digest)
        for _ in range(AFRESH):
            try:
                return self._upload(source, path)
            except UploadGone:
                # completed, and the reply was lost; or given up by somebody else
                if self._store.exists(path):
                    return self._compare(path, digest)
            except AlreadyThere:
                return self._compare(path, digest)
        raise StorageError(
            f"upload {self._store.uri(path)}: the store forgot the upload {AFRESH} times",
            hint="look for a lifecycle rule or a job that gives up unfinished uploads",
        )

    def _upload(self, source: str, path: str) -> None:
        store, backend = self._store, self._backend
        upload = store._do("begin the upload of", path, lambda: backend.begin_upload(path))
        size = os.path.getsize(source)

        def send(number: int) -> str:
            with open(source, "rb") as file:
                file.seek((number - 1) * self.part_size)
                data = file.read(self.part_size)
            return store._do("upload", path, lambda: backend.upload_part(path, upload, number, data))

        try:
            numbers = range(1, -(-size // self.part_size) + 1)
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="store-parts") as pool:
                tags = list(pool.map(send, numbers))
            store._do("complete", path, lambda: backend.complete_upload(path, upload, tags))
        except BaseException:
            with contextlib.suppress(StorageError):
                self.give_up(UnfinishedUpload(path, upload, 0.0))
            raise

    def _compare(self, path: str, digest: str) -> None:
        if self._store.part(path).sha256 != digest:
            raise AlreadyThere(f"upload {self._store.uri(path)}: something else is there already")

    def unfinished(self) -> list[UnfinishedUpload]:
        return self._store._do("list the uploads of", "", lambda: list(self._backend.unfinished()))

    def give_up(self, upload: UnfinishedUpload) -> None:
        self._store._do("give up", upload.path, lambda: self._backend.abort_upload(upload), **_NOTHING)

    def probe(self) -> None:
        path = f".probe-{uuid.uuid4().hex}"
        backend, store = self._backend, self._store
        upload = store._do("begin the upload of", path, lambda: backend.begin_upload(path))
        try:
            tags = [
                store._do("upload", path, lambda n=number, d=data: backend.upload_part(path, upload, n, d))
                for number, data in ((1, b"1" * SMALLEST), (2, b"2"))
            ]
            store._do("complete", path, lambda: backend.complete_upload(path, upload, tags))
            size = store.part(path).size
        finally:
            store.delete(path)
        if size != SMALLEST + 1:
            raise StorageError(f"upload {store.uri(path)}: {SMALLEST + 1} bytes went up in two parts, {size} are there")


_NOTHING: dict[str, Any] = {"empty": None}


def claim(path: str) -> str:
    return f"{path}.claim"

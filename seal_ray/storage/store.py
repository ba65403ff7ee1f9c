"""Objects under a URI: a local folder, S3 and its look-alikes, or whatever else fsspec reads, with the same guarantees.

Every operation is tried again where that can help, and fails with an error of ours that names URI and hint. Listings
never come from a cache. There is one layer of retries, here: those of s3fs and botocore are turned off.
"""

import contextlib
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tenacity

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, Missing, StorageError
from seal_ray.records import Event
from seal_ray.storage import store_errors
from seal_ray.storage.backends import open_backend
from seal_ray.storage.objects import Part, StoredObject, file_digest
from seal_ray.storage.remote_files import CHUNK
from seal_ray.storage.uris import check_path, check_uri, is_local

__all__ = ["Sink", "Store", "is_local"]
T = TypeVar("T")
Names = list[str]  # a class that has a method `list` can't write these out
Parts = list[Part]
Sink = Callable[[Event], None]


class Store:
    """A root URI; every path is relative to it. Safe to use from several threads."""

    def __init__(self, uri: str, settings: StorageSection | None = None, sink: Sink | None = None) -> None:
        self.settings = settings or StorageSection()
        self.root = check_uri(uri)
        self.sink = sink
        self.give_up: float | None = None  # monotonic time after which nothing is tried again
        self._backend = open_backend(self.root, self.settings)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Store, (self.root, self.settings)

    @property
    def remote(self) -> bool:
        return self._backend.remote

    def uri(self, path: str = "") -> str:
        """Where that is, to show to a person."""
        return store_errors.without_secrets(f"{self.root.rstrip('/')}/{path}" if path else self.root)

    def read(self, path: str) -> bytes:
        return self._do("read", path, lambda: self._backend.read(path))

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | StorageError]:
        """Every object in order; an error stands in the place of what can't be read."""

        def one(path: str) -> bytes | StorageError:
            try:
                return self.read(path)
            except StorageError as error:
                return error

        return self._each(one, paths)

    def write(self, path: str, data: bytes) -> None:
        """Write, replacing what is there."""
        self._do("write", path, lambda: self._backend.write(path, data))

    def create(self, path: str, data: bytes) -> None:
        """Write what is not there yet. The same content there is fine, other content is `AlreadyThere`."""
        try:
            self._do("create", path, lambda: self._backend.create(path, data))
        except AlreadyThere:
            # also where a reply was lost: the second attempt met the object of the first
            if self.read(path) != data:
                raise

    def info(self, path: str) -> StoredObject:
        return self._do("look at", path, lambda: self._backend.info(path))

    def exists(self, path: str) -> bool:
        try:
            self.info(path)
        except Missing:
            return False
        return True

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Every object whose path begins so, in the order of their paths."""
        found = self._do("list", prefix, lambda: list(self._backend.entries(prefix)), empty=[])
        return sorted(found, key=lambda e: e.path)

    def names(self, prefix: str) -> Names:
        """The names directly below a prefix that ends in a slash: objects and folders."""
        return sorted(self._do("list", prefix, lambda: list(self._backend.names(prefix)), empty=[]))

    def delete(self, path: str) -> None:
        """Delete; fine if it is gone already."""
        self._do("delete", path, lambda: self._backend.delete(path), empty=None)

    def now(self) -> float:
        """The time by the store's clock, the only one that drivers on several machines share."""
        return self._do("ask the time of", "", self._backend.now)

    def upload_dir(self, local_dir: str | os.PathLike[str], prefix: str) -> Parts:
        """Every file below a local folder, create-only."""
        top = os.fspath(local_dir)
        names = sorted(
            os.path.relpath(os.path.join(base, name), top).replace(os.sep, "/")
            for base, _, files in os.walk(top)
            for name in files
        )

        def one(name: str) -> Part:
            source, path = os.path.join(top, *name.split("/")), f"{prefix.rstrip('/')}/{name}"
            part = Part(path, os.path.getsize(source), file_digest(source))
            try:
                self._do("upload", path, lambda: self._backend.upload(source, path))
            except AlreadyThere:
                if self.part(path) != part:
                    raise
            return part

        return list(self._each(one, names))

    def download(self, wanted: Sequence[tuple[str, str, int]], local_dir: str | os.PathLike[str]) -> Parts:
        """Objects (path, name in the folder, size) into a local folder; each file appears there whole or not at all."""
        top = os.fspath(local_dir)
        os.makedirs(top, exist_ok=True)

        def one(item: tuple[str, str, int]) -> Part:
            path, name, size = item
            check_path(name)
            target = os.path.join(top, *name.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            temporary = f"{target}.{uuid.uuid4().hex}.part"

            def fetch() -> None:
                self._backend.download(path, temporary)
                if os.path.getsize(temporary) < size:
                    raise ConnectionError(f"only {os.path.getsize(temporary)} of {size} bytes came")

            try:
                self._do("download", path, fetch)
                os.replace(temporary, target)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            return Part(path, os.path.getsize(target), file_digest(target))

        return list(self._each(one, wanted))

    def part(self, path: str) -> Part:
        """Size and digest of an object, from its bytes."""
        if not self.remote or self.info(path).size <= CHUNK:
            data = self.read(path)
            return Part(path, len(data), hashlib.sha256(data).hexdigest())
        import tempfile

        with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
            size = self.info(path).size
            return self.download([(path, "part", size)], folder)[0]

    def probe(self) -> None:
        """Find out now whether the store can be written to, and whether its create-only writes are."""
        path = f".probe-{uuid.uuid4().hex}"
        self.create(path, b"1")
        try:
            self._do("create", path, lambda: self._backend.create(path, b"2"))
        except AlreadyThere:
            return
        finally:
            self.delete(path)
        raise StorageError(
            f"create {self.uri(path)}: the store replaced an object that a create-only write must not touch",
            hint="use a store that honours If-None-Match on writes (AWS S3, recent MinIO, R2, Ceph, GCS)",
        )

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.shutdown(wait=False)

    def _each(self, work: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        """In order, with as many at once as the settings allow. A local disk gains nothing from threads."""
        if not self.remote or len(items) < 2:
            return map(work, items)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.parallel, thread_name_prefix="store")
            return self._pool.map(work, items)

    def _do(self, operation: str, path: str, call: Callable[[], T], **nothing: T) -> T:
        """Call, again and again while that may help. `empty` is what a missing object means, where that is no error."""
        check_path(path.removesuffix("/"), may_be_empty=operation in ("list", "ask the time of"))
        renewals = 0

        def helps(error: BaseException) -> bool:
            nonlocal renewals
            if store_errors.is_expired(error) and renewals < 2:
                renewals += 1
                renew = getattr(self._backend, "renew", None)
                if renew:
                    renew()
                return True
            return store_errors.is_passing(error)

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if self.sink and error:
                what = store_errors.without_secrets(f"{type(error).__name__}: {error}")
                data = {"operation": operation, "uri": self.uri(path), "attempt": state.attempt_number, "error": what}
                self.sink(Event("storage", data, time=time.time()))

        def enough(state: tenacity.RetryCallState) -> bool:
            late = self.give_up is not None and time.monotonic() > self.give_up
            return late or state.attempt_number > self.settings.retries

        retrying = tenacity.Retrying(
            stop=enough,
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
            retry=tenacity.retry_if_exception(helps),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(call)
        except StorageError:
            raise
        except Exception as error:
            if store_errors.says_exists(error):
                raise AlreadyThere(f"{operation} {self.uri(path)}: something else is there already") from error
            found = store_errors.translate(error, operation, self.uri(path))
            if isinstance(found, Missing) and "empty" in nothing:
                return nothing["empty"]
            raise found from error

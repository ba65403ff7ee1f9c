"""Objects under a URI: a local folder, S3 and its look-alikes, or whatever else fsspec reads, with the same guarantees.

Every operation is tried again where that can help, and fails with an error of ours that names URI and hint. Listings
never come from a cache. There is one layer of retries, here: those of s3fs and botocore are turned off.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tenacity

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, Missing, StorageError
from seal_ray.events import Sink, StoreRetried
from seal_ray.redaction import logger, redact
from seal_ray.storage import store_errors
from seal_ray.storage.backends import open_backend
from seal_ray.storage.large_uploads import LargeUploads
from seal_ray.storage.local_files import LocalFiles, files_below
from seal_ray.storage.objects import EarlierState, Part, StoredObject, UnfinishedUpload, file_digest
from seal_ray.storage.remote_files import CHUNK
from seal_ray.storage.retries import Patience
from seal_ray.storage.s3_files import S3Files
from seal_ray.storage.uris import check_path, check_uri, is_local

__all__ = ["Store", "is_local"]
T = TypeVar("T")
Names = list[str]  # a class that has a method `list` can't write these out
Parts = list[Part]
States = list[EarlierState]
Uploads = list[UnfinishedUpload]
Objects = list[StoredObject]
WHOLE = ("list", "ask the time of", "list the versions of", "list the uploads of")  # concern a whole run
QUIET = 5  # attempts that nobody is told of where nobody listens
LOG = logger(__name__)


class Store:
    """A root URI; every path is relative to it. Safe to use from several threads."""

    def __init__(self, uri: str, settings: StorageSection | None = None, sink: Sink | None = None) -> None:
        self.settings = settings or StorageSection()
        self.root = check_uri(uri)
        self.sink = sink
        self.give_up: float | None = None  # monotonic time after which nothing is tried again
        self.patience = Patience(self.settings.patience)
        self._backend = open_backend(self.root, self.settings)
        self._s3 = self._backend if isinstance(self._backend, S3Files) else None
        self._large = LargeUploads(self, self._s3) if self._s3 else None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Store, (self.root, self.settings)

    @property
    def remote(self) -> bool:
        return self._backend.remote

    def uri(self, path: str = "") -> str:
        """Where that is, to show to a person."""
        return redact(f"{self.root.rstrip('/')}/{path}" if path else self.root)

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
        if self._large and len(data) >= self._large.limit:
            with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
                source = os.path.join(folder, "data")
                with open(source, "wb") as file:
                    file.write(data)
                self._large.upload(source, path)
            return
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
        entries = self._do("list", prefix, lambda: list(self._backend.entries(prefix)), empty=[])
        return sorted(entries, key=lambda e: e.path)

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

        def one(name: str) -> Part:
            source, path = os.path.join(top, *name.split("/")), f"{prefix.rstrip('/')}/{name}"
            part = Part(path, os.path.getsize(source), file_digest(source))
            if self._large and part.size >= self._large.limit:
                self._large.upload(source, path)
                return part
            try:
                self._do("upload", path, lambda: self._backend.upload(source, path))
            except AlreadyThere:
                if self.part(path) != part:
                    raise
            return part

        return list(self._each(one, files_below(top)))

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
        with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
            size = self.info(path).size
            return self.download([(path, "part", size)], folder)[0]

    def probe(self) -> None:
        """Find out whether the store does what a run relies on: create-only writes, and the encryption asked for."""
        path = f".probe-{uuid.uuid4().hex}"
        self.create(path, b"1")
        try:
            self._do("create", path, lambda: self._backend.create(path, b"2"))
        except AlreadyThere:
            self._check_encryption(path)
            return
        finally:
            self.delete(path)
        raise StorageError(
            f"create {self.uri(path)}: the store replaced an object that a create-only write must not touch",
            hint="use a store that honours If-None-Match on writes (AWS S3, recent MinIO, R2, Ceph, GCS)",
        )

    def probe_large(self) -> None:
        """The same for an object that goes up in several parts. Nothing to do where nothing does."""
        if self._large:
            self._large.probe()

    def _check_encryption(self, path: str) -> None:
        wanted, s3 = self.settings.encryption, self._s3
        if not wanted or not s3:
            return
        stands = self._do("look at", path, lambda: s3.encryption(path))
        if stands != wanted:
            raise StorageError(
                f"create {self.uri(path)}: the store ignored storage.encryption: {wanted} "
                f"and kept the object {f'under {stands}' if stands else 'in plain text'}",
                hint="use a store that encrypts, or leave storage.encryption empty and encrypt the bucket or the disk",
            )

    # what a bucket keeps beside its objects

    def noncurrent(self) -> States | None:
        """Earlier states that a versioned bucket keeps; None where nobody may know."""
        try:
            return self._do("list the versions of", "", self._s3.noncurrent) if self._s3 else []
        except StorageError:
            return None

    def purge(self, state: EarlierState) -> None:
        s3 = self._s3
        if s3:
            self._do("delete", state.path, lambda: s3.purge(state), empty=None)

    def unfinished(self) -> Uploads:
        """Uploads in several parts that were begun and neither completed nor given up: they are paid for, unseen."""
        return self._large.unfinished() if self._large else []

    def left_behind(self) -> Objects:
        """Files of writers that died, on a disk."""
        disk = self._backend
        return self._do("list", "", lambda: list(disk.left_behind())) if isinstance(disk, LocalFiles) else []

    def give_up_upload(self, upload: UnfinishedUpload) -> None:
        if self._large:
            self._large.give_up(upload)

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
        check_path(path.removesuffix("/"), may_be_empty=operation in WHOLE)
        attempts = _Attempts(self, operation, path)
        try:
            result = attempts.until_done(call)
        except StorageError:
            raise
        except Exception as error:
            if store_errors.says_exists(error):
                self.patience.answered()
                raise AlreadyThere(f"{operation} {self.uri(path)}: something else is there already") from error
            temporary = store_errors.may_be_expired(error) and self._has_temporary_credentials()
            translated = store_errors.translate(error, operation, self.uri(path), temporary=temporary)
            if not store_errors.is_passing(error):
                self.patience.answered()
            if isinstance(translated, Missing) and "empty" in nothing:
                return nothing["empty"]
            raise translated from error
        self.patience.answered()
        return result

    def _has_temporary_credentials(self) -> bool:
        return bool(self._s3 and self._s3.has_temporary_credentials())

    def _renew(self) -> None:
        if self._s3:
            self._s3.renew()


class _Attempts:
    """One operation's attempts: which failures are tried again, for how long, and who is told."""

    def __init__(self, store: Store, operation: str, path: str) -> None:
        self.store, self.operation, self.path = store, operation, path
        self.first_failure: float | None = None
        self.renewals = 0

    def until_done(self, call: Callable[[], T]) -> T:
        backoff = tenacity.wait_random_exponential(multiplier=0.1, max=5)
        retrying = tenacity.Retrying(
            stop=lambda state: self._left() <= 0,
            wait=lambda state: max(0.0, min(backoff(state), self._left())),
            retry=tenacity.retry_if_exception(self._helps),
            before_sleep=self._tell,
            reraise=True,
        )
        return retrying(call)

    def _left(self) -> float:
        """Seconds for which it may be tried again."""
        now = time.monotonic()
        left = self.store.patience.left(self.first_failure if self.first_failure is not None else now)
        return left if self.store.give_up is None else min(left, self.store.give_up - now)

    def _helps(self, error: BaseException) -> bool:
        """Whether the same call may work in a moment."""
        expired = store_errors.is_expired(error)
        maybe = store_errors.may_be_expired(error) and self.store._has_temporary_credentials()
        if (expired and self.renewals < 2) or (maybe and self.renewals < 1):
            self.renewals += 1
            self.store._renew()
            return True
        if not store_errors.is_passing(error):
            return False
        if self.first_failure is None:
            self.first_failure = time.monotonic()
        self.store.patience.failed()
        return True

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        what = redact(f"{type(error).__name__}: {error}")
        uri, left = self.store.uri(self.path), max(0.0, self._left())
        if self.store.sink:
            self.store.sink(StoreRetried(self.operation, uri, state.attempt_number, what, round(left, 1)))
        elif state.attempt_number > QUIET:
            LOG.warning("%s %s: %s; tried again for another %.0f s", self.operation, uri, what, left)

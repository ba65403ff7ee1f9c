"""Objects under a URI: a local folder, S3 and its look-alikes, or whatever else fsspec reads, with the same guarantees.

Every operation is tried again where that can help, and fails with an error of ours that names URI and hint. Listings
never come from a cache. There is one layer of retries, here: those of s3fs and botocore are turned off.
"""

import contextlib
import email.utils
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol, TypeVar

import fsspec
import tenacity
from fsspec.asyn import AsyncFileSystem

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, ConfigError, Missing, StorageError
from seal_ray.records import Event
from seal_ray.storage import faults
from seal_ray.storage.listing import Part, StoredObject
from seal_ray.storage.local import LocalFiles

T = TypeVar("T")
Names = list[str]  # a class that has a method `list` can't write these out
Parts = list[Part]
Sink = Callable[[Event], None]
SLOWEST = 1_000_000  # bytes per second that a store must move before a transfer counts as stalled
CHUNK = 8_000_000


class Backend(Protocol):
    """What a kind of store can do. Raises the exceptions of its library; keys are relative."""

    remote: bool

    def read(self, key: str) -> bytes: ...
    def write(self, key: str, data: bytes) -> None: ...
    def create(self, key: str, data: bytes) -> None: ...
    def swap(self, key: str, data: bytes, etag: str) -> bool: ...
    def info(self, key: str) -> StoredObject: ...
    def entries(self, prefix: str) -> Iterable[StoredObject]: ...
    def names(self, prefix: str) -> Sequence[str]: ...
    def delete(self, key: str) -> None: ...
    def now(self) -> float: ...
    def upload(self, source: str, key: str) -> None: ...
    def download(self, key: str, target: str) -> None: ...


class Store:
    """A root URI; every path is relative to it. Safe to use from several threads."""

    def __init__(self, uri: str, settings: StorageSection | None = None, sink: Sink | None = None) -> None:
        self.settings = settings or StorageSection()
        self.root = check_uri(uri)
        self.sink = sink
        self.give_up: float | None = None  # monotonic time after which nothing is tried again
        self._backend = _backend(self.root, self.settings)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Store, (self.root, self.settings)

    @property
    def remote(self) -> bool:
        return self._backend.remote

    def uri(self, path: str = "") -> str:
        """Where that is, to show to a person."""
        return faults.without_secrets(f"{self.root.rstrip('/')}/{path}" if path else self.root)

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

    def swap(self, path: str, data: bytes, etag: str) -> bool:
        """Replace an object if it is still the one that `etag` names; False if it is another by now."""
        try:
            return self._do("swap", path, lambda: self._backend.swap(path, data, etag))
        except AlreadyThere:
            return self.read(path) == data

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

    def download_dir(self, prefix: str, local_dir: str | os.PathLike[str]) -> Parts:
        """Every object below a prefix, into a local folder."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        found = self.list(start)
        if not found:
            raise Missing(f"download {self.uri(prefix)}: nothing is there")
        return self.download([(e.path, e.path[len(start) :], e.size) for e in found], local_dir)

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
            if faults.is_expired(error) and renewals < 2:
                renewals += 1
                renew = getattr(self._backend, "renew", None)
                if renew:
                    renew()
                return True
            return faults.is_passing(error)

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if self.sink and error:
                what = faults.without_secrets(f"{type(error).__name__}: {error}")
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
            if faults.says_exists(error):
                raise AlreadyThere(f"{operation} {self.uri(path)}: something else is there already") from error
            found = faults.translate(error, operation, self.uri(path))
            if isinstance(found, Missing) and "empty" in nothing:
                return nothing["empty"]
            raise found from error


class RemoteFiles:
    """Objects of any fsspec file system."""

    remote = True

    def __init__(self, fs: Any, root: str, timeout: float) -> None:
        self.fs, self.root, self.timeout = fs, root.rstrip("/"), timeout
        self._threads = isinstance(fs, AsyncFileSystem)

    def read(self, key: str) -> bytes:
        return self.fs.cat_file(self._path(key), **self._limit(10 * CHUNK))

    def write(self, key: str, data: bytes) -> None:
        self._folder(key)
        self.fs.pipe_file(self._path(key), data, **self._limit(len(data)))

    def create(self, key: str, data: bytes) -> None:
        self._folder(key)
        self.fs.pipe_file(self._path(key), data, mode="create", **self._limit(len(data)))

    def swap(self, key: str, data: bytes, etag: str) -> bool:
        raise StorageError(f"swap {key}: this kind of store has no compare-and-swap")

    def info(self, key: str) -> StoredObject:
        found = self.fs.info(self._path(key), **self._limit(0))
        if found["type"] != "file":
            raise FileNotFoundError(key)
        return self._entry(key, found)

    def entries(self, prefix: str) -> Iterable[StoredObject]:
        folder = prefix.rpartition("/")[0]
        self.fs.invalidate_cache()
        found = self.fs.find(self._path(folder), detail=True, **self._limit(0))
        skip = len(self._path("").rstrip("/")) + 1
        return [self._entry(p[skip:], i) for p, i in found.items() if p[skip:].startswith(prefix)]

    def names(self, prefix: str) -> Sequence[str]:
        return sorted({e.path[len(prefix) :].split("/")[0] for e in self.entries(prefix)})

    def delete(self, key: str) -> None:
        self.fs.rm_file(self._path(key), **self._limit(0))

    def now(self) -> float:
        key = f".clock-{uuid.uuid4().hex}"
        self.write(key, b"")
        stamp = self.info(key).modified
        self.delete(key)
        return stamp or time.time()

    def upload(self, source: str, key: str) -> None:
        self._folder(key)
        self.fs.put_file(source, self._path(key), mode="create", **self._limit(os.path.getsize(source)))

    def download(self, key: str, target: str) -> None:
        with self.fs.open(self._path(key), "rb") as remote, open(target, "wb") as local:
            shutil.copyfileobj(remote, local, CHUNK)

    def _path(self, key: str) -> str:
        return self.fs._strip_protocol(f"{self.root}/{key}" if key else self.root)

    def _folder(self, key: str) -> None:
        if not self._threads:
            self.fs.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)

    def _limit(self, size: int) -> dict[str, float]:
        # fsspec's asynchronous file systems take a limit for the whole call; the others have none to set
        return {"timeout": self.timeout + size / SLOWEST} if self._threads else {}

    def _entry(self, key: str, found: dict[str, Any]) -> StoredObject:
        stamp = next(
            (found[k] for k in ("LastModified", "mtime", "updated", "modified", "created") if found.get(k)), 0.0
        )
        if isinstance(stamp, str):
            stamp = datetime.fromisoformat(stamp)
        when = stamp.timestamp() if isinstance(stamp, datetime) else float(stamp)
        tag = str(found.get("ETag") or found.get("etag") or f"{when}-{found['size']}")
        return StoredObject(key, int(found["size"]), tag, when)


class S3Files(RemoteFiles):
    """Objects of S3 through s3fs, with its conditional writes and one request per listing page."""

    def __init__(self, fs: Any, root: str, timeout: float) -> None:
        super().__init__(fs, root, timeout)
        self.bucket, _, key = root.removeprefix("s3://").partition("/")
        self.start = f"{key.rstrip('/')}/" if key else ""

    def read(self, key: str) -> bytes:
        # without concurrency s3fs asks for no size first: one request
        return self.fs.cat_file(self._path(key), max_concurrency=1, **self._limit(10 * CHUNK))

    def swap(self, key: str, data: bytes, etag: str) -> bool:
        try:
            self._call("put_object", Key=self.start + key, Body=data, IfMatch=etag)
        except OSError as error:
            if faults.says_exists(error):
                raise FileExistsError(key) from error
            raise
        return True

    def info(self, key: str) -> StoredObject:
        return _s3_entry(key, self._call("head_object", Key=self.start + key), "ContentLength")

    def entries(self, prefix: str) -> Iterable[StoredObject]:
        for page in self._pages(prefix):
            for found in page.get("Contents", []):
                yield _s3_entry(found["Key"][len(self.start) :], found, "Size")

    def names(self, prefix: str) -> Sequence[str]:
        start = len(self.start) + len(prefix)
        out: list[str] = []
        for page in self._pages(prefix, Delimiter="/"):
            out += [found["Key"][start:] for found in page.get("Contents", [])]
            out += [found["Prefix"][start:].rstrip("/") for found in page.get("CommonPrefixes", [])]
        return out

    def now(self) -> float:
        answer = self._call("list_objects_v2", Prefix=self.start, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return email.utils.parsedate_to_datetime(date).timestamp() if date else super().now()

    def download(self, key: str, target: str) -> None:
        self.fs.get_file(self._path(key), target)

    def renew(self) -> None:
        """Read the credentials again from where they came: a file or a role may have newer ones."""
        self.fs.connect(refresh=True)

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call("list_objects_v2", Prefix=self.start + prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self.fs.call_s3(method, Bucket=self.bucket, **arguments, **self._limit(0))


def _s3_entry(key: str, found: dict[str, Any], size: str) -> StoredObject:
    return StoredObject(key, int(found[size]), str(found["ETag"]), found["LastModified"].timestamp())


def _backend(uri: str, settings: StorageSection) -> Backend:
    protocol, _, rest = uri.partition("://")
    if not rest:
        return LocalFiles(uri)
    if protocol in ("file", "local"):
        return LocalFiles(rest)
    if protocol != "s3":
        try:
            return RemoteFiles(fsspec.filesystem(protocol, use_listings_cache=False), uri, settings.timeout)
        except ImportError as error:
            raise ConfigError(f"{uri}: {error}", hint=f"install what fsspec needs for {protocol}://") from None
    extra: dict[str, str] = {}
    if settings.encryption:
        extra["ServerSideEncryption"] = settings.encryption
    if settings.kms_key:
        extra["SSEKMSKeyId"] = settings.kms_key
    fs = fsspec.filesystem(
        "s3",
        use_listings_cache=False,
        endpoint_url=settings.endpoint or None,
        profile=settings.profile or None,
        client_kwargs={"region_name": settings.region} if settings.region else {},
        s3_additional_kwargs=extra,
        config_kwargs={
            "connect_timeout": min(10.0, settings.timeout),
            "read_timeout": settings.timeout,
            "max_pool_connections": max(10, settings.parallel),
            "retries": {"total_max_attempts": 1},
        },
    )
    fs.retries = 1
    return S3Files(fs, uri, settings.timeout)


def check_uri(uri: str) -> str:
    """The URI without a slash at its end; a typo is found here and not in the bucket of somebody else."""
    shown = faults.without_secrets(uri)
    if not uri.strip() or uri != uri.strip() or "\n" in uri:
        raise ConfigError(f"run.uri: {shown!r} is no place", hint="a folder, or s3://bucket/path")
    protocol, separator, rest = uri.partition("://")
    if not separator:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/?[^/]", uri):
            raise ConfigError(f"run.uri: {shown} looks like a URI but has no ://", hint="write s3://bucket/path")
        return uri.rstrip("/") or "/"
    if protocol == "s3a":
        protocol = "s3"
    if protocol not in fsspec.available_protocols():
        raise ConfigError(
            f"run.uri: {shown}: nothing here reads {protocol}://", hint="s3://, gs://, file:// or a folder"
        )
    if protocol not in ("memory", "file", "local") and not rest.split("/")[0]:
        raise ConfigError(f"run.uri: {shown} names no bucket", hint=f"write {protocol}://bucket/path")
    if "@" in rest.split("/")[0] and ":" in rest.split("@")[0]:
        raise ConfigError(f"run.uri: {shown} holds a password", hint="give credentials by environment, profile or role")
    return f"{protocol}://{rest.rstrip('/') or '/'}"


def check_path(path: str, *, may_be_empty: bool = False) -> None:
    """A path stays below its root."""
    if (path and all(step not in ("", ".", "..") for step in path.split("/"))) or (may_be_empty and not path):
        return
    raise StorageError(f"{path!r} is not a path below a root")


def file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_local(uri: str) -> bool:
    """Whether other machines see something else there, or nothing."""
    return "://" not in uri or uri.partition("://")[0] in ("file", "local")

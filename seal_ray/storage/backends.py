"""Which kind of store a URI names, and what each of them can do."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.storage.local_files import LocalFiles
from seal_ray.storage.objects import StoredObject
from seal_ray.storage.remote_files import RemoteFiles, file_system
from seal_ray.storage.s3_files import S3Files


class Backend(Protocol):
    """What a kind of store can do. Raises the exceptions of its library; keys are relative."""

    remote: bool

    def read(self, key: str) -> bytes: ...
    def write(self, key: str, data: bytes) -> None: ...
    def create(self, key: str, data: bytes) -> None: ...

    def info(self, key: str) -> StoredObject: ...
    def entries(self, prefix: str) -> Iterable[StoredObject]: ...
    def names(self, prefix: str) -> Sequence[str]: ...
    def delete(self, key: str) -> None: ...
    def now(self) -> float: ...
    def upload(self, source: str, key: str) -> None: ...
    def download(self, key: str, target: str) -> None: ...


def open_backend(uri: str, settings: StorageSection) -> Backend:
    protocol, _, rest = uri.partition("://")
    if not rest:
        return LocalFiles(uri)
    if protocol in ("file", "local"):
        return LocalFiles(rest)
    if protocol != "s3":
        try:
            return RemoteFiles(file_system(protocol), uri, settings.timeout)
        except ImportError as error:
            raise ConfigError(f"{uri}: {error}", hint=f"install what fsspec needs for {protocol}://") from None
        except (TypeError, ValueError, NotImplementedError) as error:  # it wants more than a URI
            raise ConfigError(f"{uri}: nothing can be read there by its URI alone ({error})") from None
    extra: dict[str, str] = {}
    if settings.encryption:
        extra["ServerSideEncryption"] = settings.encryption
    if settings.kms_key:
        extra["SSEKMSKeyId"] = settings.kms_key
    fs = file_system(
        "s3",
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

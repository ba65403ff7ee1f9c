"""Objects of S3 through s3fs, with its conditional writes and one request per listing page."""

import email.utils
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from seal_ray.storage.objects import StoredObject
from seal_ray.storage.remote_files import CHUNK, RemoteFiles


class S3Files(RemoteFiles):
    """Objects of S3 through s3fs, with its conditional writes and one request per listing page."""

    def __init__(self, fs: Any, root: str, timeout: float) -> None:
        super().__init__(fs, root, timeout)
        self.bucket, _, key = root.removeprefix("s3://").partition("/")
        self.start = f"{key.rstrip('/')}/" if key else ""

    def read(self, key: str) -> bytes:
        # without concurrency s3fs asks for no size first: one request
        return self.fs.cat_file(self._path(key), max_concurrency=1, **self._limit(10 * CHUNK))

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

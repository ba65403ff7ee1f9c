"""Objects of S3 through s3fs: conditional writes, one request per listing page, uploads in parts, earlier versions."""

import email.utils
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from seal_ray.storage import store_errors
from seal_ray.storage.objects import EarlierState, StoredObject, UnfinishedUpload
from seal_ray.storage.remote_files import CHUNK, RemoteFiles


class S3Files(RemoteFiles):
    def __init__(self, fs: Any, root: str, timeout: float) -> None:
        super().__init__(fs, root, timeout)
        self.bucket, _, key = root.removeprefix("s3://").partition("/")
        self.start = f"{key.rstrip('/')}/" if key else ""

    def read(self, key: str) -> bytes:
        # without concurrency s3fs asks for no size first: one request
        return self.fs.cat_file(self._path(key), max_concurrency=1, **self._limit(10 * CHUNK))

    def info(self, key: str) -> StoredObject:
        return _s3_entry(key, self._head(key), "ContentLength")

    def encryption(self, key: str) -> str:
        """What an object is encrypted with, by the store's word."""
        return str(self._head(key).get("ServerSideEncryption") or "")

    def _head(self, key: str) -> dict[str, Any]:
        try:
            return self._call("head_object", Key=self.start + key)
        except Exception as error:
            # a HEAD has no body: what 400 and 403 mean, only a GET tells
            if store_errors.code(error) in {"400", "403"}:
                self._call("get_object", Key=self.start + key, Range="bytes=0-0")
            raise

    def entries(self, prefix: str) -> Iterable[StoredObject]:
        for page in self._pages(prefix):
            for listed in page.get("Contents", []):
                if listed["Key"].endswith("/"):
                    continue  # a folder, as consoles and mounts make them; nothing of ours is called so
                yield _s3_entry(listed["Key"][len(self.start) :], listed, "Size")

    def names(self, prefix: str) -> Sequence[str]:
        start = len(self.start) + len(prefix)
        out: list[str] = []
        for page in self._pages(prefix, Delimiter="/"):
            out += [listed["Key"][start:] for listed in page.get("Contents", []) if not listed["Key"].endswith("/")]
            out += [listed["Prefix"][start:].rstrip("/") for listed in page.get("CommonPrefixes", [])]
        return out

    def now(self) -> float:
        answer = self._call("list_objects_v2", Prefix=self.start, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return email.utils.parsedate_to_datetime(date).timestamp() if date else super().now()

    def download(self, key: str, target: str) -> None:
        self.fs.get_file(self._path(key), target)

    # uploads in parts

    def begin_upload(self, key: str) -> str:
        return self._call("create_multipart_upload", Key=self.start + key)["UploadId"]

    def upload_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """The part's tag, by which it is named when the upload is completed."""
        where = {"Key": self.start + key, "UploadId": upload, "PartNumber": number}
        return self._call("upload_part", **where, Body=data)["ETag"]

    def complete_upload(self, key: str, upload: str, tags: Sequence[str]) -> None:
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        where = {"Key": self.start + key, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        self._call("complete_multipart_upload", **where, IfNoneMatch="*")

    def abort_upload(self, upload: UnfinishedUpload) -> None:
        self._call("abort_multipart_upload", Key=self.start + upload.path, UploadId=upload.upload)

    def unfinished(self) -> Iterator[UnfinishedUpload]:
        more: dict[str, str] = {}
        while True:
            page = self._call("list_multipart_uploads", Prefix=self.start, **more)
            for listed in page.get("Uploads") or []:
                path = listed["Key"][len(self.start) :]
                yield UnfinishedUpload(path, listed["UploadId"], listed["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}

    # earlier versions

    def noncurrent(self) -> list[EarlierState]:
        states: list[EarlierState] = []
        more: dict[str, str] = {}
        while True:
            page = self._call("list_object_versions", Prefix=self.start, **more)
            earlier = [v for v in page.get("Versions") or [] if not v["IsLatest"]]
            states += [EarlierState(v["Key"][len(self.start) :], v["VersionId"]) for v in earlier]
            if not page.get("IsTruncated"):
                return states
            more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def purge(self, state: EarlierState) -> None:
        self._call("delete_object", Key=self.start + state.path, VersionId=state.version)

    # credentials

    def renew(self) -> None:
        """Read the credentials again from where they came: a file or a role may have newer ones."""
        self.fs.connect(refresh=True)

    def has_temporary_credentials(self) -> bool:
        try:
            credentials = self._wait(self.fs.session.get_credentials)
        except Exception:
            return False  # there are none, or whoever gives them out does not answer
        return bool(getattr(credentials, "token", None))

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call("list_objects_v2", Prefix=self.start + prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self.fs.call_s3(method, Bucket=self.bucket, **arguments, **self._limit(len(arguments.get("Body", b""))))


def _s3_entry(key: str, listed: dict[str, Any], size: str) -> StoredObject:
    return StoredObject(key, int(listed[size]), str(listed["ETag"]), listed["LastModified"].timestamp())

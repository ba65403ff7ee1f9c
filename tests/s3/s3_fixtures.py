"""S3 endpoints for the tests, with a bucket for each: moto's server, and a real one where it is installed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import ceph_server
import pytest
import s3fs
from s3_server import KEYS, serve


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket; credentials for it are in the environment."""
    return _bucket(s3_endpoint, KEYS, monkeypatch)


@pytest.fixture(scope="session")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 that is no imitation. Skipped, with the reason, where none can be started."""
    if why := ceph_server.missing():
        pytest.skip(why)
    folder: Path = tmp_path_factory.mktemp("ceph")
    with ceph_server.serve(folder) as endpoint:
        yield endpoint


@pytest.fixture
def real_bucket(real_s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return _bucket(real_s3, ceph_server.KEYS, monkeypatch)


def _bucket(endpoint: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for key, value in keys.items():
        monkeypatch.setenv(key, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False).call_s3("create_bucket", Bucket=name)
    return f"s3://{name}"

"""The chaos tests of storage use the S3 server and the recorded round of the S3 tests."""

import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from s3_server import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket; credentials for it are in the environment."""
    from s3_server import KEYS, make_bucket

    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    make_bucket(s3_endpoint, name)
    return f"s3://{name}"

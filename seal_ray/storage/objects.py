"""What a store says of what it holds."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it. The etag names a state of the object; it is never a digest of its bytes."""

    path: str
    size: int
    etag: str
    modified: float  # by the store's clock; 0 where it does not tell


@dataclass(frozen=True)
class EarlierState:
    """What an object was before it was rewritten or deleted, where the bucket keeps that."""

    path: str
    version: str


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload in several parts that was begun and is not complete."""

    path: str
    upload: str
    begun: float  # by the store's clock


@dataclass(frozen=True)
class Part:
    """One object whose content is known."""

    path: str
    size: int
    sha256: str


def file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A model in a bucket, or wherever else a store reads: what files it has there, and fetching them."""

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from seal_ray.errors import DataError
from seal_ray.models.files import WANTED, ListedFile, check_names
from seal_ray.storage.store import Store

if TYPE_CHECKING:
    from seal_ray.config import ModelSection, StorageSection
    from seal_ray.storage.objects import StoredObject

SUMS = "SHA256SUMS"  # as sha256sum writes it, beside the model's files: a store has no SHA-256 of its own
_SUM = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(\S+)")


class StoredModel:
    """What a store has under a model's name."""

    revision = ""  # it has but one

    def __init__(self, section: "ModelSection", storage: "StorageSection | None") -> None:
        self._section, self._store = section, Store(section.name, storage)

    def close(self) -> None:
        self._store.close()

    @cached_property
    def content(self) -> str:
        """What names these very files: a folder that is written anew gets a new name."""
        return "\n".join(f"{e.path} {e.size} {e.etag}" for e in self._files)

    @property
    def kept_as(self) -> str:
        """What a node's copy is called by."""
        return self.content

    @cached_property
    def listed(self) -> list[ListedFile]:
        sums = self._sums()
        return [ListedFile(e.path, e.size, sums.get(e.path, "")) for e in self._files]

    def download(self, folder: Path, without: Sequence[str] = ()) -> None:
        files = [e for e in self._files if not any(fnmatch(e.path, pattern) for pattern in without)]
        self._store.download([(e.path, e.path, e.size) for e in files], folder)

    def say(self) -> str:
        return f"{len(self._files)} files under {self._section.name}"

    @cached_property
    def _all(self) -> "list[StoredObject]":
        return [e for e in self._store.list() if "/" not in e.path]

    @cached_property
    def _files(self) -> "list[StoredObject]":
        """The files of a model, refused where they are none."""
        name, patterns = self._section.name, (*WANTED, "*.py") if self._section.trust_remote_code else WANTED
        wanted = sorted((e for e in self._all if any(fnmatch(e.path, p) for p in patterns)), key=lambda e: e.path)
        if not wanted:
            raise DataError(f"model.name: no model is stored under {name}", hint="check bucket and folder")
        check_names({e.path for e in self._all}, f"model.name: {name}")
        return wanted

    def _sums(self) -> dict[str, str]:
        if not any(e.path == SUMS for e in self._all):
            return {}
        lines = self._store.read(SUMS).decode(errors="replace").splitlines()
        return {m[2]: m[1] for line in lines if (m := _SUM.fullmatch(line.strip()))}

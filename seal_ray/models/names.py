"""A model's name becomes a folder on this node: a built-in one, a local one, one in a store, or one from a hub.

Everything but a local folder goes through the node's cache: one process fetches, the others wait for it. Who computes
fetches the model whole. Whoever only reads and writes its tokens (the driver) has enough with a description of it:
everything but the weights, and the digest of all.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seal_ray.errors import ConfigError, InfraError
from seal_ray.models.builtin import BUILTINS, recipe_of
from seal_ray.models.cache import ModelCache
from seal_ray.models.digests import digest_of, digest_of_listed
from seal_ray.models.files import ListedFile, check, check_described
from seal_ray.storage.objects import file_digest

if TYPE_CHECKING:
    from seal_ray.config import ModelSection, StorageSection
    from seal_ray.models.hub import HubModel
    from seal_ray.models.stored import StoredModel

    RemoteModel = HubModel | StoredModel

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
WEIGHTS = "*.safetensors"
NOTE = "seal-ray-model.json"  # in a description: what is known of the files that are not there


@dataclass(frozen=True)
class Described:
    """A model as far as the driver has to know it."""

    folder: str  # configuration and tokenizer; the weights are there only if they were on this node anyway
    digest: str  # of all its files
    section: "ModelSection"  # what names these very files: of a hub's branch, the commit that it stood for


def fetch(section: "ModelSection", storage: "StorageSection | None" = None, *, digest: str = "") -> str:
    """The folder of a model on this node, with safetensors, configuration and tokenizer, all checked.

    `digest`: what the files must be (`digest_of`); others are refused, and not kept.
    """
    if own := _at_hand(section):
        folder = own
    else:
        with _remote(section, storage) as remote:
            cache = _cache(section)
            key = cache.key(section.name, remote.kept_as)

            def make(making: Path) -> None:
                remote.download(making)
                _refuse_others(section, making, digest, kept_as=cache.folder(key))

            folder = cache.take(key, make)
    check(folder, f"model.name: {section.name}", trust_remote_code=section.trust_remote_code)
    _refuse_others(section, folder, digest)
    return str(folder)


def describe(section: "ModelSection", storage: "StorageSection | None" = None) -> Described:
    """A model without its weights, where somebody says what they are; else the model whole."""
    if not _at_hand(section):
        with _remote(section, storage) as remote:
            cache = _cache(section)
            key = cache.key(section.name, remote.kept_as, described=True)
            if not cache.held(cache.key(section.name, remote.kept_as)) and (
                cache.held(key) or _weights_are_told(remote.listed)
            ):
                folder = cache.take(key, lambda making: _describe(remote, making))
                check_described(folder, f"model.name: {section.name}", trust_remote_code=section.trust_remote_code)
                told = json.loads((folder / NOTE).read_text())["digest"]
                return Described(str(folder), told, _pinned(section, remote))
    return whole(section, storage)


def whole(section: "ModelSection", storage: "StorageSection | None" = None) -> Described:
    """A model with its weights."""
    if not _at_hand(section):
        with _remote(section, storage) as remote:
            section = _pinned(section, remote)
    folder = fetch(section, storage)
    return Described(folder, digest_of(folder), section)


def _pinned(section: "ModelSection", remote: "RemoteModel") -> "ModelSection":
    return section.model_copy(update={"revision": remote.revision}) if remote.revision else section


def reach(section: "ModelSection", storage: "StorageSection | None" = None) -> str:
    """What stands behind a model's name, found without fetching its weights; raises as `fetch` would."""
    if _at_hand(section):
        return fetch(section, storage)
    with _remote(section, storage) as remote:
        return remote.say()


def weight_bytes(folder: str | Path) -> int:
    """How large a model's weights are as they are stored, of a folder that has them or describes them."""
    note = Path(folder) / NOTE
    if note.exists():
        return int(json.loads(note.read_text())["weights"])
    return sum(p.stat().st_size for p in Path(folder).glob(WEIGHTS))


def _at_hand(section: "ModelSection") -> Path | None:
    """The folder of a model that is on this node or made there; None for one that has to be fetched."""
    name = section.name
    if name.startswith("builtin:"):
        return _builtin(section)
    if ("://" in name and not name.startswith("file://")) or not _is_path(name):
        return None
    return Path(name.removeprefix("file://")).expanduser().absolute()


def _is_path(name: str) -> bool:
    local = name.removeprefix("file://")
    return local.startswith(("/", ".", "~")) or os.path.isdir(local) or not HUB_ID.match(name)


def _cache(section: "ModelSection") -> ModelCache:
    return ModelCache(section.cache, section.cache_gb)


def _builtin(section: "ModelSection") -> Path:
    if section.name not in BUILTINS:
        raise ConfigError(f"model.name: there is no {section.name}", hint=f"use one of {', '.join(BUILTINS)}")
    cache = _cache(section)
    return cache.take(cache.key(section.name, recipe_of(section.name)), BUILTINS[section.name])


@contextmanager
def _remote(section: "ModelSection", storage: "StorageSection | None") -> "Iterator[RemoteModel]":
    if "://" in section.name:
        from seal_ray.models.stored import StoredModel

        with closing(StoredModel(section, storage)) as stored:
            yield stored
    else:
        from seal_ray.models.hub import HubModel

        yield HubModel(section, _cache(section))


def _weights_are_told(files: Sequence[ListedFile]) -> bool:
    return all(file.sha256 for file in files if Path(file.name).match(WEIGHTS))


def _describe(remote: "RemoteModel", making: Path) -> None:
    """What is fetched is read here; of what is not, its keeper's word is taken until somebody fetches it."""
    files = remote.listed
    remote.download(making, without=[WEIGHTS])
    digests = {f.name: file_digest(str(making / f.name)) if (making / f.name).is_file() else f.sha256 for f in files}
    weights = sum(file.size for file in files if Path(file.name).match(WEIGHTS))
    (making / NOTE).write_text(json.dumps({"digest": digest_of_listed(digests), "weights": weights}))


def _refuse_others(section: "ModelSection", folder: Path, digest: str, kept_as: Path | None = None) -> None:
    if digest and (own := digest_of(folder, kept_as)) != digest:
        raise InfraError(
            f"model.name: the files of {section.name} on this node are {own[:12]}, and the run was begun with "
            f"{digest[:12]}",
            hint=f"every node must have the same files: look at {kept_as or folder} and at where they come from "
            "(model.mirror, model.revision, SHA256SUMS)",
        )

"""A model's name becomes a folder on this node: a built-in one, a local one, one in a store, or one from a hub.

Everything but a local folder goes through the node's cache: one process fetches, the others wait for it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.models.builtin import BUILTINS, recipe_of
from seal_ray.models.cache import ModelCache
from seal_ray.models.files import WANTED, check, check_names
from seal_ray.redaction import logger

if TYPE_CHECKING:
    from seal_ray.config import ModelSection, StorageSection
    from seal_ray.storage.objects import StoredObject
    from seal_ray.storage.store import Store

log = logger(__name__)

UNWANTED = ("original/*", "consolidated*", "onnx/*", "*.md")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
NETWORK_SECONDS = 30


def fetch(section: "ModelSection", storage: "StorageSection | None" = None) -> str:
    """The folder of a model on this node, with safetensors, configuration and tokenizer, all checked."""
    name = section.name
    if name.startswith("builtin:"):
        folder = _builtin(section)
    elif "://" in name and not name.startswith("file://"):
        folder = _from_store(section, storage)
    elif _is_path(name):
        folder = Path(name.removeprefix("file://")).expanduser().absolute()
    else:
        folder = _from_hub(section)
    check(folder, f"model.name: {name}", trust_remote_code=section.trust_remote_code)
    return str(folder)


def reach(section: "ModelSection", storage: "StorageSection | None" = None) -> str:
    """What stands behind a model's name, found without fetching its weights; raises as `fetch` would."""
    name = section.name
    if name.startswith("builtin:") or ("://" not in name and _is_path(name)) or name.startswith("file://"):
        return fetch(section, storage)
    if "://" in name:
        from seal_ray.storage.store import Store

        with closing(Store(name, storage)) as store:
            return f"{len(_stored(section, store))} files under {name}"
    from huggingface_hub import HfApi

    with _hub_errors(section):
        api = HfApi(endpoint=section.mirror or None, token=os.environ.get("HF_TOKEN") or False)
        return f"{name} at {_commit(section, _cache(section), api)[:12]}"


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


def _from_store(section: "ModelSection", storage: "StorageSection | None") -> Path:
    from seal_ray.storage.store import Store

    store = Store(section.name, storage)
    try:
        wanted = _stored(section, store)
        cache = _cache(section)
        # a folder that is written anew gets a new entry
        stamp = "\n".join(f"{e.path} {e.size} {e.etag}" for e in wanted)

        def make(folder: Path) -> None:
            store.download([(e.path, e.path, e.size) for e in wanted], folder)

        return cache.take(cache.key(section.name, stamp), make)
    finally:
        store.close()


def _stored(section: "ModelSection", store: "Store") -> "list[StoredObject]":
    """The files of a model in a store, refused where they are none."""
    there = [e for e in store.list() if "/" not in e.path]
    patterns = (*WANTED, "*.py") if section.trust_remote_code else WANTED
    wanted = sorted((e for e in there if any(fnmatch(e.path, p) for p in patterns)), key=lambda e: e.path)
    if not wanted:
        raise DataError(f"model.name: no model is stored under {section.name}", hint="check bucket and folder")
    check_names({e.path for e in there}, f"model.name: {section.name}")
    return wanted


def _from_hub(section: "ModelSection") -> Path:
    from huggingface_hub import HfApi, snapshot_download

    name, cache = section.name, _cache(section)
    token = os.environ.get("HF_TOKEN") or False
    wanted: list[str] = [*WANTED, *(["*.py"] if section.trust_remote_code else [])]
    with _hub_errors(section):
        commit = _commit(section, cache, HfApi(endpoint=section.mirror or None, token=token))

        def make(folder: Path) -> None:
            snapshot_download(
                name,
                revision=commit,
                local_dir=folder,
                endpoint=section.mirror or None,
                token=token,
                allow_patterns=wanted,
                ignore_patterns=list(UNWANTED),
                etag_timeout=NETWORK_SECONDS,
            )
            _drop_hub_notes(folder)

        return cache.take(cache.key(name, commit), make)


@contextmanager
def _hub_errors(section: "ModelSection") -> Iterator[None]:
    """What a hub says, as errors of ours."""
    from huggingface_hub import errors as hub

    name, where = section.name, section.mirror or "the hub"
    try:
        yield
    except hub.GatedRepoError:
        raise ConfigError(
            f"model.name: {name} is gated and {where} did not accept the token in HF_TOKEN",
            hint="ask for access on the model's page and set HF_TOKEN to a token that may read it",
        ) from None
    except hub.RevisionNotFoundError:
        raise ConfigError(
            f"model.revision: {name} has no revision {section.revision} at {where}", hint="check model.revision"
        ) from None
    except hub.RepositoryNotFoundError:
        raise ConfigError(
            f"model.name: {name} is neither a folder here nor a model at {where}",
            hint="check the name; for a private or gated model set HF_TOKEN; a folder's name begins with ./ or /",
        ) from None
    except _network_errors() as error:
        raise InfraError(
            f"model.name: {name} can't be fetched from {where} ({type(error).__name__})",
            hint="check the network, set model.mirror, or name a folder or an s3:// URI that holds the model",
        ) from None


def _commit(section: "ModelSection", cache: ModelCache, api: Any) -> str:
    """The commit that a revision stands for: the hub's word, or without a network what it was the last time."""
    from huggingface_hub import errors as hub

    if re.fullmatch(r"[0-9a-f]{40}", section.revision):
        return section.revision
    note = cache.root / "revisions" / (cache.key(section.name, section.revision) + ".txt")
    try:
        info = api.model_info(section.name, revision=section.revision, timeout=NETWORK_SECONDS)
    except (hub.GatedRepoError, hub.RepositoryNotFoundError, hub.RevisionNotFoundError):
        raise
    except _network_errors() as error:
        if note.exists() and cache.held(cache.key(section.name, note.read_text())):
            log.warning("%s: no network (%s); the copy on this node is used", section.name, type(error).__name__)
            return note.read_text()
        raise InfraError(
            f"model.name: {section.name} is not on this node and {section.mirror or 'the hub'} can't be reached "
            f"({type(error).__name__})",
            hint="check the network, set model.mirror, or name a folder or an s3:// URI that holds the model",
        ) from None
    if info.siblings:
        check_names({file.rfilename for file in info.siblings}, f"model.name: {section.name}")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(info.sha)
    return info.sha


def _network_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub import errors as hub

    # the hub's own error descends from that of the HTTP library which it was built on
    below = next(c for c in hub.HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    return below, hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError


def _drop_hub_notes(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / ".cache", ignore_errors=True)

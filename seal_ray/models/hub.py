"""A model on a hub, or on a mirror of one: the commit that a revision stands for, its files, and fetching them."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.errors import ConfigError, InfraError
from seal_ray.models.cache import ModelCache
from seal_ray.models.files import WANTED, ListedFile, check_names
from seal_ray.redaction import logger

if TYPE_CHECKING:
    from seal_ray.config import ModelSection

log = logger(__name__)

UNWANTED = ("original/*", "consolidated*", "onnx/*", "*.md")
NETWORK_SECONDS = 30


class HubModel:
    """What a hub has under a model's name. Without a network the commit is what it was the last time on this node."""

    def __init__(self, section: "ModelSection", cache: ModelCache) -> None:
        self._section, self._cache = section, cache
        self._token = os.environ.get("HF_TOKEN") or False
        self._endpoint = section.mirror or None

    @property
    def revision(self) -> str:
        """What a node is given so that it fetches these very files, wherever a branch is by then."""
        return self.content

    @cached_property
    def content(self) -> str:
        """What names these very files: the commit."""
        with hub_errors(self._section):
            return self._commit()

    @property
    def kept_as(self) -> str:
        """What a node's copy is called by: one with the model's code is another than one without."""
        return self._with_code(self.content)

    @cached_property
    def listed(self) -> list[ListedFile]:
        """The model's files. Of those that it keeps apart (LFS: weights among them) the hub has the SHA-256."""
        from huggingface_hub.utils import filter_repo_objects

        with hub_errors(self._section):
            tree: Any = list(self._api().list_repo_tree(self._section.name, revision=self.content))
        files = [file for file in tree if hasattr(file, "size")]  # else a folder
        check_names({file.path for file in files}, f"model.name: {self._section.name}")
        own = filter_repo_objects(
            files, allow_patterns=self._wanted(), ignore_patterns=list(UNWANTED), key=lambda file: file.path
        )
        return [ListedFile(f.path, f.size, f.lfs.sha256 if f.lfs else "") for f in own]

    def download(self, folder: Path, without: Sequence[str] = ()) -> None:
        from huggingface_hub import snapshot_download

        with hub_errors(self._section):
            snapshot_download(
                self._section.name,
                revision=self.content,
                local_dir=folder,
                endpoint=self._endpoint,
                token=self._token,
                allow_patterns=self._wanted(),
                ignore_patterns=[*UNWANTED, *without],
                etag_timeout=NETWORK_SECONDS,
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes

    def say(self) -> str:
        return f"{self._section.name} at {self.content[:12]}"

    def _wanted(self) -> list[str]:
        return [*WANTED, *(["*.py"] if self._section.trust_remote_code else [])]

    def _with_code(self, commit: str) -> str:
        return f"{commit} with code" if self._section.trust_remote_code else commit

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint, token=self._token)

    def _commit(self) -> str:
        from huggingface_hub import errors as hub

        section, cache = self._section, self._cache
        if re.fullmatch(r"[0-9a-f]{40}", section.revision):
            return section.revision
        note = cache.root / "revisions" / (cache.key(section.name, section.revision) + ".txt")
        try:
            info = self._api().model_info(section.name, revision=section.revision, timeout=NETWORK_SECONDS)
        except (hub.GatedRepoError, hub.RepositoryNotFoundError, hub.RevisionNotFoundError):
            raise
        except _network_errors() as error:
            if note.exists() and self._is_kept(note.read_text()):
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

    def _is_kept(self, commit: str) -> bool:
        """Whether this node has the model of a commit, or its description."""
        name, cache, copy = self._section.name, self._cache, self._with_code(commit)
        return cache.held(cache.key(name, copy)) or cache.held(cache.key(name, copy, described=True))


@contextmanager
def hub_errors(section: "ModelSection") -> Iterator[None]:
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


def _network_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub import errors as hub

    # the hub's own error descends from that of the HTTP library which it was built on
    below = next(c for c in hub.HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    return below, hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError

"""A version's files on every node: an adapter is handed over through Ray's object store, whole weights are fetched by
each node from where the run keeps them, past the driver's memory. They stay by digest on the node's disk.

However many actors a node has, one of them writes the files and the others wait for it.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.config import Config, ModelSection, StorageSection
from seal_ray.errors import DataError, InfraError, SealError
from seal_ray.models.cache import ModelCache
from seal_ray.records import Version
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import file_digest
from seal_ray.storage.round_parts import folder_index

FETCH_SECONDS = 3600.0  # that a model or a version may take to come to a node
FILE_SECONDS = 600  # of these for one file out of the object store
LARGE = 2**30  # bytes of a version above which every node fetches it by itself
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class KeptAt:
    """Where a run keeps a version's files."""

    uri: str
    storage: StorageSection
    round: int
    name: str

    def fetch(self, folder: Path) -> None:
        with contextlib.closing(Ledger(self.uri, self.storage, read_only=True)) as ledger:
            ledger.round(self.round).get_dir(self.name, folder)

    def digests(self) -> dict[str, str]:
        """By name, of what is kept there; nothing where nothing is."""
        with contextlib.closing(Ledger(self.uri, self.storage, read_only=True)) as ledger:
            index = ledger.round(self.round).get(folder_index(self.name))
        return {f["name"]: f["sha256"] for f in index["files"]} if index else {}


def kept_at(config: Config, version: Version) -> KeptAt | None:
    """Where the run keeps this version, if it is one of its own. What was borrowed from another run may look so."""
    if version.path is None:
        return None
    _, made_in, name = version.path.split("/")
    return KeptAt(config.run.uri, config.storage, int(made_in), name)


@dataclass(frozen=True)
class Shared:
    """A version's files: in Ray's object store by name, or where they are kept; and the digest of what they hold."""

    digest: str
    files: Mapping[str, Any]  # name -> reference to its bytes
    digests: Mapping[str, str]
    kept: KeptAt | None = None


def share(folder: str | None, kept: KeptAt | None = None) -> Shared | None:
    """Put a version's files where every node can get them. Whoever holds the result keeps them alive.

    Large ones stay where they are kept, if just these are kept there.
    """
    import ray

    if folder is None:
        return None
    paths = sorted(p for p in Path(folder).iterdir() if p.is_file())
    if not any(p.suffix == ".safetensors" for p in paths):
        raise DataError(f"{folder}: there are no weights in safetensors", hint="name the folder of a version")
    if kept and sum(p.stat().st_size for p in paths) > LARGE:
        own = {p.name: file_digest(str(p)) for p in paths}
        if own.items() <= kept.digests().items():
            return Shared(_whole(own), {}, own, kept)
    files, digests = {}, {}
    for path in paths:
        content = path.read_bytes()
        digests[path.name] = hashlib.sha256(content).hexdigest()
        files[path.name] = ray.put(content)
    return Shared(_whole(digests), files, digests)


def materialise(shared: Shared, model: ModelSection) -> str:
    """The folder with these files on this node, written if nobody has done it yet; held until the process ends."""
    cache = ModelCache(model.cache, model.cache_gb)
    return str(cache.take(cache.key("version", shared.digest), lambda folder: _write(shared, folder)))


def _write(shared: Shared, folder: Path) -> None:
    import ray
    from ray.exceptions import RayError

    if _whole(shared.digests) != shared.digest:
        raise DataError(f"version {shared.digest[:12]}: the digests of its files do not belong to it")
    if shared.kept:
        return _fetch(shared, shared.kept, folder)
    for name, reference in shared.files.items():
        if not _NAME.fullmatch(name):
            raise DataError(f"version {shared.digest[:12]}: {name!r} is no name for a file of a version")
        try:
            content: Any = ray.get(reference, timeout=FILE_SECONDS)
        except (RayError, TimeoutError) as error:
            raise InfraError(
                f"version {shared.digest[:12]}: {name} can't be had from the object store ({type(error).__name__})",
                hint="it is tried again on another node; if all fail, see whether the driver's node is reachable",
            ) from error
        if hashlib.sha256(content).hexdigest() != shared.digests.get(name):
            raise InfraError(f"version {shared.digest[:12]}: {name} arrived damaged", hint="it is tried again")
        with open(folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _fetch(shared: Shared, kept: KeptAt, folder: Path) -> None:
    try:
        kept.fetch(folder)
        arrived = {name: file_digest(str(folder / name)) for name in shared.digests if (folder / name).is_file()}
    except (SealError, OSError) as error:
        raise InfraError(
            f"version {shared.digest[:12]} can't be fetched from {kept.uri}: {error}",
            hint="give every node the credentials and the network that the store needs; it is tried again elsewhere",
        ) from error
    if arrived != shared.digests:
        raise InfraError(f"version {shared.digest[:12]} arrived damaged from {kept.uri}", hint="it is tried again")


def _whole(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{n} {d}" for n, d in sorted(digests.items())).encode()).hexdigest()

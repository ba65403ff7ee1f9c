"""A version's files on every node: handed over once through Ray's object store, kept by digest on the node's disk.

However many actors a node has, one of them writes the files and the others wait for it; nobody but the driver reads
the run's storage for them.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.config import ModelSection
from seal_ray.errors import DataError, InfraError
from seal_ray.models.cache import ModelCache

FETCH_SECONDS = 600  # for one file out of the object store
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Shared:
    """A folder's files in Ray's object store, by name, and the digest of what they hold."""

    digest: str
    files: Mapping[str, Any]  # name -> reference to its bytes
    digests: Mapping[str, str]


def share(folder: str | None) -> Shared | None:
    """Put a version's files where every node can get them. Whoever holds the result keeps them alive."""
    import ray

    if folder is None:
        return None
    paths = sorted(p for p in Path(folder).iterdir() if p.is_file())
    if not any(p.suffix == ".safetensors" for p in paths):
        raise DataError(f"{folder}: there are no weights in safetensors", hint="name the folder of a version")
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
    for name, reference in shared.files.items():
        if not _NAME.fullmatch(name):
            raise DataError(f"version {shared.digest[:12]}: {name!r} is no name for a file of a version")
        try:
            content: Any = ray.get(reference, timeout=FETCH_SECONDS)
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


def _whole(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{n} {d}" for n, d in sorted(digests.items())).encode()).hexdigest()

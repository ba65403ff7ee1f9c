"""The adapters of a study on their way: bytes that a bank gives and takes, folders in the ledger, versions."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from seal_ray import models
from seal_ray.config import PolicySection
from seal_ray.errors import ConfigError, DataError
from seal_ray.loops.session import Session
from seal_ray.policy import versions
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Version, digest
from seal_ray.storage.ledger import RoundLedger

STATES = "states"  # a folder in the round: a folder for each sequence, with what its next step begins from
Files = Mapping[str, bytes]


def ground(session: Session, version: Version) -> Version:
    """What a bank stands on: an adapter is trained on by itself, so what is below it is the base."""
    return versions.first(session.base) if version.kind == "adapter" else version


def start_of(session: Session, version: Version) -> Files:
    """The files of the adapter that a version is; none where it has none."""
    if version.kind == "full":
        raise ConfigError(
            f"version {version.number} has weights of its own, and a bank trains adapters on the run's own base",
            hint="export it and name the folder as model.name, or use policy.mode: full",
        )
    folder = session.adapter(version) if version.kind == "adapter" else None
    return _read(Path(folder)) if folder else {}


def keep_states(session: Session, part: RoundLedger, states: Sequence[Files]) -> None:
    """Put every sequence's adapter, and what its method remembers, into the round."""
    folder = _folder(session, part.number)
    shutil.rmtree(folder, ignore_errors=True)
    for number, files in enumerate(states):
        _write(folder / f"{number:04d}", files)
    part.put_dir(STATES, folder)
    shutil.rmtree(_folder(session, part.number - 1), ignore_errors=True)


def states_of(session: Session, number: int) -> list[Files]:
    """The adapters that a round has left, from this machine or from the ledger."""
    folder = _folder(session, number)
    if not folder.is_dir():
        part = Path(f"{folder}.part")
        shutil.rmtree(part, ignore_errors=True)
        session.ledger.round(number).get_dir(STATES, part)
        os.rename(part, folder)
    return [_read(own) for own in sorted(folder.iterdir())]


def keep_version(session: Session, part: RoundLedger, files: Files, parent: Version) -> Version:
    """The version that one adapter is: a child of what it was trained on from."""
    folder = Path(session.scratch, f"study-{part.number}")
    shutil.rmtree(folder, ignore_errors=True)
    _write(folder, {name: files[name] for name in (ADAPTER, ADAPTER_CONFIG)})
    part.put_dir("version", folder)
    return Version(
        number=part.number,
        digest=digest([parent.digest, versions.files_digest(str(folder))]),
        base=parent.base,
        parent=parent.digest,
        path=f"rounds/{part.number:04d}/version",
        kind="adapter",
        rank=int(json.loads(files[ADAPTER_CONFIG])["r"]),
        created_by=f"study of round {part.number}",
    )


def trained_layers(session: Session) -> PolicySection:
    """The update's settings, with `last_layers` as the names of the layers that it is about."""
    config = session.config
    section, keep = config.policy, config.study.keep
    if keep.method != "last_layers":
        return section
    folder = models.fetch(session.model, config.storage)  # only the weights say what layers there are
    names = [name.removesuffix(".weight") for name, shape in _shapes(folder).items() if len(shape) == 2]
    numbered = {n: int(m[1]) for n in names if n.endswith("_proj") and (m := re.search(r"\.layers\.(\d+)\.", n))}
    count = max(numbered.values(), default=-1) + 1
    if keep.layers > count:
        raise ConfigError(f"study.keep.layers: {keep.layers}, and the model has {count}", hint=f"use 1 to {count}")
    chosen = [
        name
        for name, layer in sorted(numbered.items(), key=lambda item: (item[1], item[0]))
        if layer >= count - keep.layers
        and (section.targets == ("all-linear",) or name.rsplit(".", 1)[-1] in section.targets)
    ]
    if not chosen:
        raise ConfigError(f"policy.targets: {', '.join(section.targets)} are in none of the last layers")
    return section.model_copy(update={"targets": tuple(chosen)})


def _shapes(folder: str) -> dict[str, list[int]]:
    """Every weight's shape, from the headers of the model's files."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        shapes |= {name: entry["shape"] for name, entry in models.header_of(path).items() if name != "__metadata__"}
    return shapes


def _folder(session: Session, number: int) -> Path:
    return Path(session.scratch, f"states-{number}")


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _read(folder: Path) -> Files:
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    if ADAPTER not in files or ADAPTER_CONFIG not in files:
        raise DataError(f"{folder}: no adapter to train on from", hint="look at the run with `seal-ray verify`")
    return {name: data for name, data in files.items() if name.endswith(".safetensors") or name == ADAPTER_CONFIG}

"""Versions of the policy: what one is called, what it came from, and whether its files are still what they were.

A version's digest covers its files and its parent, so two versions are the same only if their whole history is.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.errors import DataError
from seal_ray.policy.job import UpdateResult
from seal_ray.records import Json, Version, digest, encode

if TYPE_CHECKING:
    from seal_ray.storage.ledger import Ledger

DEEPEST = 30  # levels by which a line of the tree steps in


def first(base: str) -> Version:
    """Version 0: the base model (by the digest of its files) as it is."""
    return Version(0, digest([base]), base, created_by="base model")


def make(parent: Version, result: UpdateResult, round: int) -> Version:
    """The version that an update made in a round. Its number is the round's, so a rejected one never lends its own."""
    kind = "full" if result.kind == "full" else "adapter"
    return Version(
        number=round,
        digest=digest([parent.digest, files_digest(result.folder)]),
        base=parent.base,
        parent=parent.digest,
        path=f"rounds/{round:04d}/version",
        kind=kind,
        rank=result.rank,
        created_by=f"policy update of round {round}",
    )


def fetch(version: Version, ledger: "Ledger", folder: str) -> None:
    """Get the files of a version that has some from its run's ledger; refuse others."""
    assert version.path, "the base has no files of its own in a run"
    _, made_in, name = version.path.split("/")
    ledger.round(int(made_in)).get_dir(name, folder)
    check(version, folder)


def check(version: Version, folder: str) -> None:
    """Refuse files that are not those that the version was made of."""
    if digest([version.parent, files_digest(folder)]) != version.digest:
        raise DataError(
            f"{folder}: these are not the files of version {version.number} ({version.digest[:12]})",
            hint="fetch them again from the run; if the run's own copy is damaged, roll back to an earlier version",
        )


def files_digest(folder: str) -> str:
    """The name of a folder's content: its files and their SHA-256."""
    digests = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_file():
            with open(path, "rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if not any(name.endswith(".safetensors") for name in digests):
        raise DataError(f"{folder}: no weights in safetensors are there", hint="name the folder of a version")
    return digest(digests)


def told(result: UpdateResult) -> dict[str, Json]:
    """An update for the ledger: everything but where its files happened to lie."""
    plain = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name != "folder"}
    return {name: encode(value) for name, value in plain.items()}


def lineage(
    versions: Sequence[Version],
    updates: Mapping[str, Json],
    gates: Mapping[str, Json],
    current: Version | None = None,
) -> list[dict[str, Json]]:
    """Every version with what it came from, as a forest: those without a known parent first, each with its children.

    `updates` and `gates` hold by digest what `told` said and what the gate decided. `current` is the version that the
    next round begins with.
    """
    nodes: dict[str, dict[str, Json]] = {
        v.digest: _node(v, updates.get(v.digest), gates.get(v.digest))
        | {"current": current is not None and v.digest == current.digest}
        for v in versions
    }
    roots = []
    for version in sorted(versions, key=lambda v: (v.number, v.digest)):
        parent = nodes.get(version.parent or "")
        (parent["children"] if parent else roots).append(nodes[version.digest])
    return roots


def _node(version: Version, update: Any, gate: Any) -> dict[str, Json]:
    update, gate = update or {}, gate or {}
    return {
        "version": encode(version),
        "edits": update.get("edits", []),
        "recipe": update.get("recipe"),
        "environment": update.get("environment"),
        "steps": update.get("steps"),
        "loss": (update.get("losses") or [None])[-1],
        "kl": update.get("kl"),
        "gate": {k: gate.get(k) for k in ("decision", "figures", "reasons")} if gate else None,
        "children": [],
    }


def flat(roots: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The forest of `lineage` as a list, parents first, in which children are named by their digests.

    A long run is a chain of thousands, and hardly a reader of JSON takes so many levels.
    """
    return [
        {**node, "children": [child["version"]["digest"] for child in node["children"]]}
        for node, _, _ in _in_order(roots)
    ]


def tree(roots: Sequence[Mapping[str, Json]]) -> str:
    """The forest of `lineage` as lines of text."""
    return "\n".join(f"{lead}{_line(node, parent)}" for node, lead, parent in _in_order(roots))


def _in_order(roots: Sequence[Mapping[str, Json]]) -> Iterator[tuple[Mapping[str, Json], str, str]]:
    """Every node after its parent: with what stands before its line, and its parent's name where that no longer shows.

    From so many levels on none steps in any further.
    """
    left = [(node, "", "", 0, "") for node in reversed(roots)]
    while left:
        node, lead, below, level, parent = left.pop()
        yield node, lead, parent
        children, name = node["children"], f"version {node['version']['number']}"
        for child in reversed(children):
            if level >= DEEPEST:
                left.append((child, below, below, level + 1, name))
            elif child is children[-1]:
                left.append((child, f"{below}└─ ", f"{below}   ", level + 1, ""))
            else:
                left.append((child, f"{below}├─ ", f"{below}│  ", level + 1, ""))


def _line(node: Mapping[str, Json], parent: str) -> str:
    version = node["version"]
    parts = [f"version {version['number']}", version["digest"][:12]]
    if version["parent"]:
        parts.append(f"{len(node['edits'])} edits")
        if node["loss"] is not None:
            parts.append(f"loss {node['loss']:.3f}")
        if node["kl"] is not None:
            parts.append(f"kl {node['kl']:.3f}")
    else:
        parts.append("base model")
    if node["gate"] and node["gate"]["decision"]:
        parts.append(node["gate"]["decision"])
    if node["current"]:
        parts.append("current")
    if parent:
        parts.append(f"from {parent}")
    return "  ".join(parts)

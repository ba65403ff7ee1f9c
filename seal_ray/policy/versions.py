"""Versions of the policy: how one is made from an update's result, and what its record tells."""

import dataclasses
import hashlib
from pathlib import Path

from seal_ray.policy.job import UpdateResult
from seal_ray.records import Json, Version, digest, encode


def make(parent: Version, result: UpdateResult, number: int) -> Version:
    """The version that an update of round `number` made."""
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(result.folder).iterdir())}
    kind = "full" if result.kind == "full" else "adapter"
    return Version(
        number=parent.number + 1,
        digest=digest([parent.digest, files]),
        base=parent.base,
        parent=parent.digest,
        path=f"{number}/version",
        kind=kind,
        rank=result.rank,
    )


def told(result: UpdateResult) -> dict[str, Json]:
    return {k: encode(v) for k, v in dataclasses.asdict(result).items() if k != "folder"}

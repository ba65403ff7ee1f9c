"""A version of a run as a folder for others."""

import tempfile
from pathlib import Path
from typing import Literal, cast

from seal_ray import models
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.policy.export import Exported
from seal_ray.policy.export import export as write
from seal_ray.records import Version, decode


def export(run: Run, to: Path, *, kind: str, number: int) -> Exported:
    """Write the version that was current after a round; 0 is the latest committed one."""
    if kind not in {"merged", "adapter"}:
        raise ConfigError(f"--as {kind}: no such form", hint="use merged or adapter")
    number = number or run.latest
    manifest = run.ledger.manifest(number) if number else None
    if not manifest:
        raise ConfigError(f"round {number} of {run.uri} is not committed", hint="`seal-ray status` lists the rounds")
    version = decode(Version, manifest["version"])
    if version.path is None:
        raise ConfigError(f"after round {number} the base model is current", hint="there is nothing to export")
    base = models.fetch(run.config.model, run.config.storage)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
        _, made_in, name = version.path.split("/")
        run.ledger.round(int(made_in)).get_dir(name, folder)
        versions.check(version, folder)
        return write(base, folder, str(to), kind=cast(Literal["merged", "adapter"], kind), probe=_probe(run, number))


def _probe(run: Run, number: int) -> list[list[int]] | None:
    """The run's own edits: what the version is good at shows in them."""
    edits = [e for e in run.round(number).edits if not e.failure][:4]
    return [[*e.prompt_ids, *e.ids][:512] for e in edits] or None

"""A version of a run as a folder for others."""

import tempfile
from pathlib import Path
from typing import Literal, cast

from seal_ray import models
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.policy.export import Exported, export_full
from seal_ray.policy.export import export as write
from seal_ray.records import Version, decode


def export(run: Run, to: Path, *, kind: str, number: int) -> Exported:
    """Write the version that was current after a round; 0 is the one that is current now."""
    if kind not in {"merged", "adapter"}:
        raise ConfigError(f"--as {kind}: no such form", hint="use merged or adapter")
    version = _version(run, number)
    if version is None or version.path is None:
        when = f"after round {number}" if number else "now"
        raise ConfigError(f"{when} the base model is current", hint="there is nothing to export")
    if version.kind == "full" and kind == "adapter":
        raise ConfigError(
            f"version {version.number} is a set of full weights and has no adapter", hint="export it --as merged"
        )
    base = models.fetch(run.config.model, run.config.storage)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
        _, made_in, name = version.path.split("/")
        run.ledger.round(int(made_in)).get_dir(name, folder)
        versions.check(version, folder)
        probe = _probe(run, number or run.latest)
        if version.kind == "full":
            return export_full(base, folder, str(to), probe=probe)
        return write(base, folder, str(to), kind=cast(Literal["merged", "adapter"], kind), probe=probe)


def _version(run: Run, number: int) -> Version | None:
    if not number:
        return run.current()
    manifest = run.ledger.manifest(number)
    if not manifest:
        raise ConfigError(f"round {number} of {run.uri} is not committed", hint="`seal-ray status` lists the rounds")
    return decode(Version, manifest["version"])


def _probe(run: Run, number: int) -> list[list[int]] | None:
    """The run's own edits: what the version is good at shows in them."""
    edits = [e for e in run.round(number).edits if not e.failure][:4]
    return [[*e.prompt_ids, *e.ids][:512] for e in edits] or None

"""A version of a run as a folder for others."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from seal_ray import models
from seal_ray.commands.served import steps_of
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run, find_version
from seal_ray.policy import skill as skills
from seal_ray.policy import versions
from seal_ray.policy.export import Exported, check_target, export_full
from seal_ray.policy.export import export as write
from seal_ray.records import Version, decode


@dataclass(frozen=True)
class SkillRequest:
    """What is to be added to the version: so much of what one version has beyond another, or beyond its base."""

    learned: str = ""  # RUN#N
    plain: str = ""
    weight: float = 1.0


def export(run: Run, to: Path, *, kind: str, number: int, skill: SkillRequest = SkillRequest()) -> Exported:
    """Write the version that was current after a round; 0 is the one that is current now."""
    if kind not in {"merged", "adapter"}:
        raise ConfigError(f"--as {kind}: no such form", hint="use merged or adapter")
    if not skill.learned and skill != SkillRequest():
        raise ConfigError("--skill-beyond and --skill-weight say how much of --skill is added", hint="give --skill too")
    check_target(str(to))
    version = _version(run, number)
    if version is None or version.path is None:
        when = f"after round {number}" if number else "now"
        raise ConfigError(f"{when} the base model is current", hint="there is nothing to export")
    if version.kind == "full" and kind == "adapter":
        raise ConfigError(
            f"version {version.number} is a set of full weights and has no adapter", hint="export it --as merged"
        )
    base = models.fetch(run.config.model, run.config.storage, digest=version.base)
    trust = run.config.model.trust_remote_code
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
        versions.fetch(version, run.keeper(version).ledger, folder)
        probe = _probe(run, number or run.latest)
        if version.kind == "full":
            if skill.learned:
                raise ConfigError(
                    f"--skill: version {version.number} is a set of full weights", hint="only adapters add up"
                )
            return export_full(base, folder, str(to), probe=probe, trust=trust)
        if skill.learned:
            folder = _with_skill(run, version, folder, skill)
        form = cast(Literal["merged", "adapter"], kind)
        return write(base, folder, str(to), kind=form, probe=probe, trust=trust)


def note(run: Run) -> str:
    """What whoever takes one version away has to know of the others; empty where it is the whole."""
    current = run.current()
    if current is None or steps_of(run, current) is None:
        return ""
    return (
        "this is one step's adapter alone: each step of this stream has its own (study.keep.method: separate). "
        "--round N exports that of round N; `seal-ray ask` and `serve` have them all"
    )


def _with_skill(run: Run, version: Version, folder: str, request: SkillRequest) -> str:
    """A folder beside the version's with the adapter that both make together."""
    parts = {}
    for name, reference in (("learned", request.learned), ("plain", request.plain)):
        if reference:
            other, source = find_version(reference, run.storage)
            if other.base != version.base:
                raise ConfigError(
                    f"--skill {reference}: it comes from another base model than version {version.number}",
                    hint="a skill can only be added to a version of the base model that it comes from",
                )
            if other.kind != "adapter" or other.path is None:
                raise ConfigError(f"--skill {reference}: that version has no adapter", hint="name one that was trained")
            parts[name] = os.path.join(folder, name)
            os.makedirs(parts[name])
            versions.fetch(other, source.ledger, parts[name])
    to = os.path.join(folder, "together")
    os.makedirs(to)
    own = skills.skill(parts["learned"], parts.get("plain"), request.weight)
    skills.summed([skills.WeightedAdapter(folder), *own], to)
    return to


def _version(run: Run, number: int) -> Version | None:
    if not number:
        return run.current()
    manifest = run.ledger.manifest(number)
    if not manifest:
        raise ConfigError(f"round {number} of {run.uri} is not committed", hint="`seal-ray status` lists the rounds")
    return decode(Version, manifest["version"])


def _probe(run: Run, number: int) -> list[list[int]] | None:
    """The run's own edits: what the version is good at shows in them."""
    edits = [e for e in run.ledger.round(number).records("edits").values() if not e.failure][:4]
    return [[*e.prompt_ids, *e.ids][:512] for e in edits] or None

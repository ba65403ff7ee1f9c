"""A version as a folder."""

from pathlib import Path
from typing import Annotated

import typer

from seal_ray.cli.arguments import AsJson, EndpointUrl, StorageKeys, Uri
from seal_ray.cli.opening import open_run
from seal_ray.cli.output import show


def export(
    uri: Uri,
    to: Annotated[Path, typer.Option("--to", help="folder to write")],
    as_: Annotated[
        str, typer.Option("--as", help="merged: a model that needs nothing else; adapter: for PEFT")
    ] = "merged",
    round_: Annotated[
        int, typer.Option("--round", help="the version that was current after this round; 0: the current one", min=0)
    ] = 0,
    skill: Annotated[
        str, typer.Option("--skill", help="RUN#N: add what that version has learned, of the same base model")
    ] = "",
    skill_beyond: Annotated[
        str, typer.Option("--skill-beyond", help="RUN#N: only what it has learned beyond this version")
    ] = "",
    skill_weight: Annotated[float, typer.Option("--skill-weight", help="how much of it")] = 1.0,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as a folder that transformers, PEFT and vLLM load, checked by log-probabilities."""
    from dataclasses import asdict

    from seal_ray.commands import export

    wanted = export.SkillRequest(skill, skill_beyond, skill_weight)
    run = open_run(uri, endpoint, storage)
    done = export.export(run, to, kind=as_, number=round_, skill=wanted)
    note = export.note(run)
    show(
        asdict(done) | ({"note": note} if note else {}),
        f"wrote {done.folder}: {done.modules} layers changed, {done.difference:.2g} nats a token off the version "
        f"(which is {done.effect:.2g} off its base)" + (f"\n{note}" if note else ""),
        as_json,
    )

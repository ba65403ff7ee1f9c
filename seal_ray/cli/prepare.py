"""What comes before a run: a configuration is written, checked, planned with, and its cluster looked at."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from seal_ray.cli.arguments import AsJson, ConfigFile, Set
from seal_ray.cli.output import show
from seal_ray.errors import ConfigError
from seal_ray.text import printable


def init(
    path: Annotated[Path, typer.Argument(help="file to write", metavar="PATH")] = Path("seal-ray.yaml"),
    as_json: AsJson = False,
) -> None:
    """Write a configuration with every field at its default, and what it means."""
    from seal_ray import config_file

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(config_file.template())
    except FileExistsError:
        raise ConfigError(f"{path} is already there", hint="name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
    show({"written": str(path)}, f"wrote {path}; next: seal-ray validate {shlex.quote(str(path))}", as_json)


def validate(config: ConfigFile, set_: Set = None, as_json: AsJson = False) -> None:
    """Check a configuration and its data, without starting anything."""
    from seal_ray import config_checks, config_file, domains
    from seal_ray.loops import learnable

    loaded = config_file.load(config, set_ or ())
    odd = [str(c) for c in config_checks.check(loaded)]
    learnable.check(domains.training_tasks(loaded), loaded.grading)
    text = "\n".join([*(f"warning: {o}" for o in odd), f"{config} is valid"])
    show({"valid": True, "digest": loaded.digest, "warnings": odd}, text, as_json)


def plan(config: ConfigFile, set_: Set = None, as_json: AsJson = False) -> None:
    """Say what a run will do: tasks, edits, candidates, steps, tokens, memory and GPU-hours."""
    from seal_ray import config_file
    from seal_ray.commands import plan as planning

    planned = planning.make(config_file.load(config, set_ or ()))
    show(planned, planning.show(planned), as_json)


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="configuration in YAML; without one, the defaults", metavar="CONFIG")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Ray cluster to look at, instead of the configuration's")
    ] = "",
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Look at cluster, nodes, store and model before a run trusts them: a line for each, with the hint."""
    from seal_ray import config_file

    overrides = [*(set_ or ()), *([f"placement.address={address}"] if address else [])]
    loaded = config_file.load(config, overrides) if config else config_file.parse("", "the defaults", overrides)
    from seal_ray.commands import doctor as examining

    findings = []
    for finding in examining.examine(loaded):
        findings.append(finding)
        if not as_json:
            colour = {"green": "green", "red": "red", "skipped": "yellow"}[finding.state]
            typer.secho(printable(examining.line(finding)), fg=colour)
    said = examining.as_data(findings)
    if as_json:
        show(said, "", as_json)
    if not said["well"]:
        raise typer.Exit(3)

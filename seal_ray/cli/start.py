"""What starts something on a cluster: runs, evaluations, studies and streams."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal_ray.cli.arguments import AsJson, ConfigFile, Quiet, Set, progress
from seal_ray.cli.exits import ZERO_WHEN_FINAL, exit_code
from seal_ray.cli.output import show
from seal_ray.cli.stop_signals import StopSignals
from seal_ray.errors import ConfigError

if TYPE_CHECKING:
    from seal_ray.loops.history import Run


def run(
    config: Annotated[
        Path, typer.Argument(help="configuration in YAML; without one, a small example", metavar="CONFIG")
    ] = Path("builtin:quickstart"),
    set_: Set = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            help="instead of run.resume. auto: go on with a run that is there, else begin one; must: only go on; "
            "never: only begin; again: go on though it has ended for good",
        ),
    ] = "",
    quiet: Quiet = False,
    as_json: AsJson = False,
    fail_on_reject: Annotated[
        bool, typer.Option("--fail-on-reject", help="exit 4 when the gate rejected the last round")
    ] = False,
    zero_when_final: Annotated[
        bool,
        typer.Option(
            "--zero-when-final",
            help="exit 0 also where a restart would end the same way, for places that restart whatever failed",
            envvar=ZERO_WHEN_FINAL,
        ),
    ] = False,
) -> None:
    """Run rounds, or go on with a run where it stopped."""
    from seal_ray import config_file

    if zero_when_final:
        os.environ[ZERO_WHEN_FINAL] = "1"
    resumed = [f"run.resume={resume}"] if resume else []
    loaded = config_file.load(config, [*(set_ or ()), *resumed, *progress(quiet, as_json)])
    from seal_ray.commands import example, terminal
    from seal_ray.loops import rounds

    with StopSignals(loaded.storage.stop_within, loaded.run.uri, config) as signals:
        done = rounds.run(loaded, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    rows = done.table()
    shown = "" if quiet or as_json else example.show(done)
    text = "\n\n".join(part for part in (terminal.show_table(rows), shown, _files(done)) if part)
    show({"uri": done.uri, "table": rows}, f"\n{text}", as_json)
    rejected = bool(rows) and rows[-1]["decision"] == "reject"
    if rejected and (fail_on_reject or loaded.gate.fail_on_reject):
        raise typer.Exit(exit_code(4))


def _files(run: "Run") -> str:
    from seal_ray.storage.flags import as_typed

    held, at = run.held(), as_typed(run.uri, run.storage)
    waits = f"round {held} waits for a person's word: seal-ray approve {at}, or reject; then the same command again\n"
    return (waits if held else "") + (
        f"the run is in {run.uri}\n"
        f"  how it did: seal-ray status {at}\n"
        f"  read it:    seal-ray report {at}\n"
        f"  look close: seal-ray inspect {at} --task TASK\n"
        f"  take it:    seal-ray export {at} --to FOLDER"
    )


def submit(
    config: ConfigFile,
    address: Annotated[
        str, typer.Option("--address", help="the cluster's job server", envvar="RAY_API_SERVER_ADDRESS")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[str, typer.Option("--working-dir", help="folder that the cluster gets")] = ".",
    code: Annotated[bool, typer.Option("--code", help="run the folder's seal_ray, not the image's")] = False,
    driver_cpus: Annotated[
        float, typer.Option("--driver-cpus", help="CPUs that the driver takes; 0: it runs on the head", min=0)
    ] = 0,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Hand a run to a Ray cluster as a job."""
    from seal_ray import config_file
    from seal_ray.commands import submit as submitting

    loaded = config_file.load(config, set_ or ())
    job = submitting.submit(
        loaded, config, set_ or [], address=address, working_dir=working_dir, with_code=code, driver_cpus=driver_cpus
    )
    text = "\n".join(f"{k + ':':<8} {v}" for k, v in job.items())
    show(job, text, as_json)


def evaluate(
    config: ConfigFile,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="none, context, untrained, file:PATH#KEY, version:RUN#N, teacher:URL#MODEL; joined:ARM learns the "
            "edits of a task as one; 'ARM with inner.objective=distill' has settings of its own; again for more. "
            "Left out: none, context and untrained",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation or test")] = "test",
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare arms on the same tasks: no training, the context alone, edits from here and there."""
    from seal_ray import config_file
    from seal_ray.commands import evaluate as table
    from seal_ray.loops import evaluation

    if split not in {"train", "validation", "test"}:
        raise ConfigError(f"--split {split}: no such split", hint="use train, validation or test")
    loaded = config_file.load(config, [*(set_ or ()), *progress(quiet, as_json)])
    with StopSignals(loaded.storage.stop_within, loaded.run.uri, config, "evaluate") as signals:
        done = evaluation.evaluate(
            loaded,
            arm or ["none", "context", "untrained"],
            split=split,  # type: ignore[arg-type]
            stop=lambda: signals.stopped,
            on_stop=signals.on_stop,
        )
    show(done, table.show(done), as_json)


def study(
    config: ConfigFile,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="instead of study.arms: context, untrained, version:RUN#N, file:PATH#KEY, teacher:URL#MODEL; "
            "'untrained with study.edits=30 domain.style=mixture domain.mixture.key_concepts=1' writes with settings "
            "of its own; again for more",
        ),
    ] = None,
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the texts of many tasks at once, arm by arm, and ask everything closed book before and after."""
    from seal_ray import config_file
    from seal_ray.commands import study as table
    from seal_ray.loops import study as studying

    arms = [config_file.assignment("study.arms", arm)] if arm else []
    loaded = config_file.load(config, [*(set_ or ()), *arms, *progress(quiet, as_json)])
    with StopSignals(loaded.storage.stop_within, loaded.run.uri, config, "study") as signals:
        run = studying.study(loaded, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    done = studying.summary(run)
    show({"uri": run.uri, "study": done}, f"{table.show_study(done)}\n\nthe study is in {run.uri}", as_json)


def stream(config: ConfigFile, set_: Set = None, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Learn tasks one after another, and see what is left of the earlier ones."""
    from seal_ray import config_file
    from seal_ray.commands import study as table
    from seal_ray.loops import stream as streaming

    loaded = config_file.load(config, [*(set_ or ()), *progress(quiet, as_json)])
    with StopSignals(loaded.storage.stop_within, loaded.run.uri, config, "stream") as signals:
        run = streaming.stream(loaded, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    done = streaming.summary(run)
    show({"uri": run.uri, "stream": done}, f"{table.show_stream(done)}\n\nthe stream is in {run.uri}", as_json)

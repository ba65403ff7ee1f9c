"""The commands. Each one reads its arguments, calls the room that does the work, and shows the result."""

import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seal_ray import __version__
from seal_ray.commands.help import ByWants
from seal_ray.commands.opening import given_storage, open_run, run_storage, target_storage, writable
from seal_ray.commands.quiet import hush
from seal_ray.commands.stop_signals import StopSignals
from seal_ray.errors import ConfigError, Interrupted, SealError
from seal_ray.redaction import redact
from seal_ray.text import printable

if TYPE_CHECKING:
    from seal_ray.config import Config, StorageSection
    from seal_ray.loops.history import Run

app = typer.Typer(
    name="seal-ray",
    help="Self-adapting language models on a Ray cluster: rounds of sample, try, grade, select, update, gate.",
    no_args_is_help=True,
    cls=ByWants,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ZERO_WHEN_FINAL = "SEAL_RAY_ZERO_WHEN_FINAL"
FINAL = (2, 4, 5)  # exit codes of what a restart does not change
# pydantic would look through every installed package for plugins, at each start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

ConfigFile = Annotated[Path, typer.Argument(help="configuration in YAML", metavar="CONFIG")]
Uri = Annotated[str, typer.Argument(help="where the run is kept", metavar="URI")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override a key, like inner.rank=16; may be given again")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show only the final table")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
EndpointUrl = Annotated[str, typer.Option("--endpoint", help="URL of an S3 look-alike", envvar="SEAL_RAY_S3_ENDPOINT")]
StorageKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--storage",
        help="a key of the storage section that the run's record can't tell, like profile=NAME; again for more",
    ),
]
RoundNumber = Annotated[int, typer.Option("--round", help="which round; 0 is the latest committed", min=0)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seal-ray {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="show tracebacks, and what libraries say", envvar="SEAL_RAY_DEBUG")
    ] = False,
    _shown: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["SEAL_RAY_DEBUG"] = "1"
    else:
        hush()


# before a run


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("seal-ray.yaml"),
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
    _show({"written": str(path)}, f"wrote {path}; next: seal-ray validate {path}", as_json)


@app.command()
def validate(config: ConfigFile, set_: Set = None, as_json: AsJson = False) -> None:
    """Check a configuration and its data, without starting anything."""
    from seal_ray import config_checks, config_file
    from seal_ray.commands import plan as planning

    found = config_file.load(config, set_ or ())
    odd = [str(c) for c in config_checks.check(found)]
    planning.data_is_there(found)
    text = "\n".join([*(f"warning: {o}" for o in odd), f"{config} is valid"])
    _show({"valid": True, "digest": found.digest, "warnings": odd}, text, as_json)


@app.command()
def plan(config: ConfigFile, set_: Set = None, as_json: AsJson = False) -> None:
    """Say what a run will do: tasks, edits, candidates, steps, tokens, memory and GPU-hours."""
    from seal_ray import config_file
    from seal_ray.commands import plan as planning

    found = planning.make(config_file.load(config, set_ or ()))
    _show(found, planning.show(found), as_json)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="configuration in YAML", metavar="CONFIG")] = None,
    address: Annotated[
        str, typer.Option("--address", help="Ray cluster to look at, instead of the configuration's")
    ] = "",
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Look at cluster, nodes, store and model before a run trusts them: a line for each, with the hint."""
    from seal_ray import config_file

    overrides = [*(set_ or ()), *([f"placement.address={address}"] if address else [])]
    found = config_file.load(config, overrides) if config else config_file.parse("", "the defaults", overrides)
    from seal_ray.commands import doctor as examining

    findings = []
    for finding in examining.examine(found):
        findings.append(finding)
        if not as_json:
            colour = {"green": "green", "red": "red", "skipped": "yellow"}[finding.state]
            typer.secho(printable(examining.line(finding)), fg=colour)
    said = examining.as_data(findings)
    if as_json:
        _show(said, "", as_json)
    if not said["well"]:
        raise typer.Exit(3)


# a run


@app.command()
def run(
    config: Annotated[
        Path, typer.Argument(help="configuration in YAML; without one, a small example", metavar="[CONFIG]")
    ] = Path("builtin:quickstart"),
    set_: Set = None,
    resume: Annotated[
        str, typer.Option("--resume", help="a run that is already there: auto, must, never or again")
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
    overrides = [*(set_ or ()), *([f"run.resume={resume}"] if resume else [])]
    if quiet or as_json:
        overrides.append(f"observe.progress={'json' if as_json else 'quiet'}")
    found = config_file.load(config, overrides)
    from seal_ray.commands import example, terminal
    from seal_ray.loops import rounds

    with StopSignals(found.storage.stop_within, found.run.uri, config) as signals:
        done = rounds.run(found, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    rows = done.table()
    shown = "" if quiet or as_json else example.show(done)
    text = "\n\n".join(part for part in (terminal.show_table(rows), shown, _files(done)) if part)
    _show({"uri": done.uri, "table": rows}, f"\n{text}", as_json)
    rejected = bool(rows) and rows[-1]["decision"] == "reject"
    if rejected and (fail_on_reject or found.gate.fail_on_reject):
        raise typer.Exit(_code(4))


def _code(code: int) -> int:
    """What the process is left with: 0 for an end that stays the same, where that was asked for."""
    if code not in FINAL or os.environ.get(ZERO_WHEN_FINAL) != "1":
        return code
    sys.stderr.write(f"seal-ray: ended for good with code {code}; left with 0, for a restart would end the same way\n")
    return 0


def _files(run: "Run") -> str:
    from seal_ray.storage.recorded import flags

    held, at = run.held(), f"{run.uri}{flags(run.storage)}"
    waits = f"round {held} waits for a person's word: seal-ray approve {at}, or reject; then the same command again\n"
    return (waits if held else "") + (
        f"the run is in {run.uri}\n"
        f"  how it did: seal-ray status {at}\n"
        f"  read it:    seal-ray report {at}\n"
        f"  look close: seal-ray inspect {at} --task TASK\n"
        f"  take it:    seal-ray export {at} --to FOLDER"
    )


CLEAR = "\x1b[2J\x1b[H"  # a terminal's screen


def _on_terminal() -> bool:
    return sys.stdout.isatty()


@app.command()
def status(
    uri: Uri,
    watch: Annotated[bool, typer.Option("--watch", help="look again and again, until nobody drives the run")] = False,
    every: Annotated[float, typer.Option("--every", help="seconds between two looks", min=0.1)] = 5.0,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """How a run is doing, also while it is on: rounds, phase, counts, failures."""
    from seal_ray.commands import terminal

    while True:
        found = terminal.status(open_run(uri, endpoint, storage))
        if watch and not as_json and _on_terminal():
            sys.stdout.write(CLEAR)
        _show(found, terminal.show_status(found), as_json)
        if not watch or not found["holder"]:
            return
        time.sleep(every)


@app.command()
def compare(
    uris: Annotated[list[str], typer.Argument(help="where the runs are kept", metavar="URI URI...")],
    to: Annotated[str, typer.Option("--to", help="also write a page (HTML) with the learning curves drawn")] = "",
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: settings that differ, and every arm's figures round by round."""
    from seal_ray.commands import compare as side_by_side
    from seal_ray.commands import compare_page

    compared = side_by_side.compare([open_run(uri, endpoint, storage) for uri in uris])
    if to:
        compare_page.write(compared, Path(to))
    _show(compared, side_by_side.show(compared), as_json)


@app.command()
def inspect(
    uri: Uri,
    task: Annotated[str, typer.Option("--task", help="a task's id")] = "",
    candidate: Annotated[str, typer.Option("--candidate", help="a candidate's id, or how it begins")] = "",
    round_: RoundNumber = 0,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """One task or one candidate: the edit, its losses, answers, verdicts, reward, and whether it was chosen."""
    from seal_ray.commands import terminal

    if bool(task) == bool(candidate):
        raise ConfigError("inspect wants one of --task and --candidate", hint=f"`seal-ray status {uri}` names some")
    found = terminal.inspect(open_run(uri, endpoint, storage), task=task, candidate=candidate, number=round_)
    _show(found, terminal.show_inspection(found), as_json)


@app.command()
def report(
    uri: Uri,
    to: Annotated[Path, typer.Option("--to", help="file to write")] = Path("report.html"),
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file to read the run in: figures by round, and every task with its edits, answers and rewards."""
    from seal_ray.commands import report

    made = report.write(open_run(uri, endpoint, storage), to)
    _show(
        {"written": str(to), "bytes": len(made.html), "tasks": made.tasks, "left_out": made.left_out},
        f"wrote {to} ({len(made.html) / 1e6:.1f} MB, {made.tasks} tasks); open it in a browser, it needs no network",
        as_json,
    )


@app.command()
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

    found = config_file.load(config, set_ or ())
    job = submitting.submit(
        found, config, set_ or [], address=address, working_dir=working_dir, with_code=code, driver_cpus=driver_cpus
    )
    text = "\n".join(f"{k + ':':<8} {v}" for k, v in job.items())
    _show(job, text, as_json)


# own documents


@app.command()
def probe(
    source: Annotated[
        str,
        typer.Argument(help="a folder, file, pattern or URI, or a configuration", metavar="DOCS|CONFIG"),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="file for the questions, in the form that a run takes as its data")
    ] = None,
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write questions about documents, check them, and say what the model does not know."""
    from seal_ray.commands import probe as probing
    from seal_ray.loops import probe as loop

    found = probing.configured(source, set_ or (), quiet=quiet, as_json=as_json)
    probing.check_target(to)
    with StopSignals(found.storage.stop_within, found.run.uri, Path(source), "probe") as signals:
        tests, known = loop.probe(found, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    if to:
        probing.write(tests, known, to)
    _show(probing.as_data(found, tests, known), probing.show(found, tests, known, to), as_json)


@app.command()
def adapt(
    source: Annotated[
        str, typer.Argument(help="a folder, file, pattern or URI, or a configuration", metavar="DOCS|CONFIG")
    ],
    to: Annotated[Path, typer.Option("--to", help="folder for the adapter and the page of what it knows")],
    policy: Annotated[
        str, typer.Option("--policy", help="RUN#N: the version that writes the edits and learns; else the base model")
    ] = "",
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """From documents to an adapter that knows them, with a page of what it learned and what it did not."""
    from seal_ray.commands import adapt as adapting
    from seal_ray.commands import probe as probing
    from seal_ray.loops import adapt as loop

    found = probing.configured(source, set_ or (), quiet=quiet, as_json=as_json, kind="adapt")
    adapting.check_target(to)
    with StopSignals(found.storage.stop_within, found.run.uri, Path(source), f"adapt --to {to}") as signals:
        done = loop.adapt(found, policy=policy, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    said = adapting.write(done, found, to)
    _show(said, adapting.show(done, found, to), as_json)


Target = Annotated[
    str, typer.Argument(help="RUN (its current version), RUN#N, or a folder with an adapter", metavar="RUN#N|FOLDER")
]
Device = Annotated[str, typer.Option("--device", help="cpu, gpu, or auto: a GPU where torch sees one")]
BaseModel = Annotated[str, typer.Option("--model", help="the base model, where a folder does not say which it is")]


@app.command()
def serve(
    target: Target,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="port to listen on", min=1, max=65535)] = 8000,
    device: Device = "auto",
    model: BaseModel = "",
    start_within: Annotated[float, typer.Option("--start-within", help="seconds that the start may take")] = 600,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Serve a version through vLLM's OpenAI-compatible server; base and adapters are asked by name."""
    import tempfile

    from seal_ray.commands import serve as serving
    from seal_ray.commands import served

    settings = serving.ServeSettings(host, port, _device(device), start_within)
    serving.check(settings)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as scratch:
        found = served.find(target, target_storage(target, endpoint, storage), scratch, model)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())

        def say(text: str, told: dict[str, Any]) -> None:
            typer.echo(json.dumps(told) if as_json else printable(text))

        serving.serve(found, settings, scratch, say=say, stop=stopped.is_set)


@app.command()
def ask(
    target: Target,
    question: Annotated[str, typer.Argument(help="what to ask")],
    topic: Annotated[str | None, typer.Option("--topic", help="what the question is about; else what it names")] = None,
    server: Annotated[str, typer.Option("--server", help="URL of a server that is up, to ask it instead")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="tokens of an answer, at most", min=1)] = 48,
    device: Device = "auto",
    model: BaseModel = "",
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Ask one question, closed book: the answers of the base and of the version, side by side."""
    import tempfile

    from seal_ray.commands import ask as asking
    from seal_ray.commands import served
    from seal_ray.commands.serve import KEY

    with tempfile.TemporaryDirectory(prefix="seal-ray-") as scratch:
        found = served.find(target, target_storage(target, endpoint, storage), scratch, model)
        if server:
            key = os.environ.get(KEY, "")
            said = asking.ask_server(server, key, found, question, topic=topic, max_tokens=max_tokens)
        else:
            said = asking.ask(found, question, topic=topic, max_tokens=max_tokens, device=_device(device))
    _show(asking.as_data(said), asking.show(said), as_json)


def _device(name: str) -> str:
    if name not in {"auto", "cpu", "gpu"}:
        raise ConfigError(f"--device {name}: no such device", hint="use auto, cpu or gpu")
    if name != "auto":
        return name
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


# the record of a run


@app.command()
def verify(uri: Uri, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False) -> None:
    """Check every digest of a run."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.verification import verify as check

    problems = check(record_keeping.open_as_it_is(uri, given_storage(endpoint, storage)))
    said = record_keeping.problems_as_data(problems)
    _show(said, record_keeping.show_problems(uri, problems), as_json)
    if not said["whole"]:
        raise typer.Exit(3)


@app.command()
def gc(
    uri: Uri,
    delete_: Annotated[bool, typer.Option("--delete", help="delete it; without this it is only listed")] = False,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """List what no reader of a run looks at any more, or delete it."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.garbage import gc as clear

    with writable(uri, endpoint, storage) as ledger:
        waste = clear(ledger, dry_run=not delete_)
    _show(record_keeping.waste_as_data(waste, delete_), record_keeping.show_waste(waste, delete_), as_json)


@app.command()
def delete(
    uri: Uri,
    task: Annotated[str, typer.Option("--task", help="id of the task whose texts go")],
    purge: Annotated[
        bool, typer.Option("--purge", help="also delete the earlier states that a versioned bucket keeps")
    ] = False,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Take a task's texts out of a run, everywhere, and leave a tombstone."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.deletion import delete_task

    with writable(uri, endpoint, storage) as ledger:
        done = delete_task(ledger, task, purge=purge)
    _show(record_keeping.deletion_as_data(done), record_keeping.show_deletion(task, done), as_json)


@app.command()
def lineage(uri: Uri, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False) -> None:
    """Every version: parents, edits, losses, gate."""
    from seal_ray.policy.versions import tree

    found = open_run(uri, endpoint, storage).lineage()
    _show(found, tree(found), as_json)


Why = Annotated[str, typer.Option("--why", help="the reason, kept in the run")]


@app.command()
def approve(
    uri: Uri, why: Why = "", endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Accept the version that a held gate waits with; the next `run` goes on with it."""
    _decide(uri, run_storage(uri, endpoint, storage), True, why, as_json)


@app.command()
def reject(
    uri: Uri, why: Why = "", endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Reject the version that a held gate waits with; the next `run` goes on with the one before."""
    _decide(uri, run_storage(uri, endpoint, storage), False, why, as_json)


def _decide(uri: str, storage: "StorageSection", accept: bool, why: str, as_json: bool) -> None:
    from seal_ray.commands import decisions

    said = decisions.decide(uri, storage, accept=accept, why=why)
    _show(said, f"round {said['round']}: {said['decision']}; `seal-ray run` goes on with it", as_json)


@app.command()
def rollback(
    uri: Uri,
    to: Annotated[int, typer.Option("--to", help="the round whose version becomes current; 0 is the base", min=0)],
    why: Why = "",
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version current. Nothing is deleted."""
    from seal_ray.commands import decisions

    said = decisions.rollback(uri, run_storage(uri, endpoint, storage), to=to, why=why)
    _show(said, f"version {said['version']['number']} is current; `seal-ray run` goes on with it", as_json)


@app.command()
def export(
    uri: Uri,
    to: Annotated[Path, typer.Option("--to", help="folder to write")],
    as_: Annotated[
        str, typer.Option("--as", help="merged: a model that needs nothing else; adapter: for PEFT")
    ] = "merged",
    round_: RoundNumber = 0,
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
    done = export.export(open_run(uri, endpoint, storage), to, kind=as_, number=round_, skill=wanted)
    _show(
        asdict(done),
        f"wrote {done.folder}: {done.modules} layers changed, {done.difference:.2g} nats a token off the version "
        f"(which is {done.effect:.2g} off its base)",
        as_json,
    )


@app.command()
def evaluate(
    config: ConfigFile,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="none, context, untrained, file:PATH#KEY, version:RUN#N, teacher:URL#MODEL; joined:ARM learns the "
            "edits of a task as one; 'ARM with inner.objective=distill' has settings of its own; again for more",
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
    found = config_file.load(config, [*(set_ or ()), *(["observe.progress=quiet"] if quiet else [])])
    with StopSignals(found.storage.stop_within, found.run.uri, config, "evaluate") as signals:
        done = evaluation.evaluate(
            found,
            arm or ["none", "context", "untrained"],
            split=split,  # type: ignore[arg-type]
            stop=lambda: signals.stopped,
            on_stop=signals.on_stop,
        )
    _show(done, table.show(done), as_json)


@app.command()
def study(
    config: ConfigFile,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="instead of study.arms: context, untrained, version:RUN#N, file:PATH#KEY; again"),
    ] = None,
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the texts of many tasks at once, arm by arm, and ask everything closed book before and after."""
    from seal_ray.commands import study as table
    from seal_ray.loops import study as studying

    arms = [f"study.arms={json.dumps(arm)}"] if arm else []
    found = _quietly(config, [*(set_ or ()), *arms], quiet, as_json)
    with StopSignals(found.storage.stop_within, found.run.uri, config, "study") as signals:
        run = studying.study(found, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    done = studying.summary(run)
    _show({"uri": run.uri, "study": done}, f"{table.show_study(done)}\n\nthe study is in {run.uri}", as_json)


@app.command()
def stream(config: ConfigFile, set_: Set = None, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Learn tasks one after another, and see what is left of the earlier ones."""
    from seal_ray.commands import study as table
    from seal_ray.loops import stream as streaming

    found = _quietly(config, set_ or (), quiet, as_json)
    with StopSignals(found.storage.stop_within, found.run.uri, config, "stream") as signals:
        run = streaming.stream(found, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    done = streaming.summary(run)
    _show({"uri": run.uri, "stream": done}, f"{table.show_stream(done)}\n\nthe stream is in {run.uri}", as_json)


def _quietly(config: Path, overrides: Sequence[str], quiet: bool, as_json: bool) -> "Config":
    """The configuration, with as much progress as was asked for."""
    from seal_ray import config_file

    progress = [f"observe.progress={'json' if as_json else 'quiet'}"] if quiet or as_json else []
    return config_file.load(config, [*overrides, *progress])


@app.command()
def regrade(
    uri: Uri, set_: Set = None, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Grade a run's answers again, with the same or another grader; needs no GPU."""
    from seal_ray.commands import regrade as regrading

    done = regrading.regrade(open_run(uri, endpoint, storage), set_ or ())
    _show(done, regrading.show(done), as_json)


def _show(data: Any, text: str, as_json: bool) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else printable(text))


def main() -> None:
    """The entry point: one readable message and an exit code for whatever goes wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show is no failure
    try:
        sys.exit(
            app(standalone_mode=False, prog_name="seal-ray")
        )  # the code of a `typer.Exit`, which is returned here; else None
    except SealError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", Interrupted.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the command line
            _fail(error.format_message(), 2)  # pyright: ignore
        _fail(f"{type(error).__name__}: {error}; this was not foreseen: --debug shows where it came from", 3)


def _fail(message: str, code: int) -> None:
    if os.environ.get("SEAL_RAY_DEBUG"):
        sys.stderr.write(redact(traceback.format_exc()))
    for line in redact(message).splitlines():
        sys.stderr.write(f"seal-ray: {printable(line)}\n")
    sys.exit(_code(code))

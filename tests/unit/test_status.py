"""What `seal-ray status` says of a run: its rounds, what it waits for, and how long nothing was heard of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from made_crew import MadeCrew
from made_events import make
from made_runs import VERSION, configured, towns
from recorded_run import record
from typer.testing import CliRunner

from seal_ray import cli
from seal_ray.commands import report, terminal
from seal_ray.events import LeaseChanged, RunStarted, WaitingFor
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.local_files import LocalFiles


def begun(tmp_path: Path, command: str, rounds: int) -> tuple[Run, list[Any]]:
    """A run that this command has begun, or gone on with, and has done nothing of."""
    config = configured(towns(tmp_path / "towns.json"), tmp_path / "run", **{"run.rounds": rounds})
    heard: list[Any] = []
    with Session(
        config,
        hire=lambda *_: MadeCrew(VERSION),  # type: ignore[arg-type, return-value]
        listeners=[heard.append],
        command=command,
    ):
        pass
    return Run(config.run.uri), [e.rounds for e in heard if isinstance(e, RunStarted)]


def test_a_run_has_as_many_rounds_as_it_was_told_last(tmp_path: Path) -> None:
    for rounds in (3, 5):
        run, told = begun(tmp_path, "run", rounds)
        assert told == [rounds] and report.overview(run)["rounds_wanted"] == rounds
        assert f"0 of {rounds} rounds committed" in terminal.show_status(terminal.status(run))


@pytest.mark.parametrize("command", ["probe or adapt", "study", ""])
def test_rounds_of_another_command_are_not_counted_towards_those_of_a_run(command: str, tmp_path: Path) -> None:
    run, told = begun(tmp_path, command, 3)
    assert told == [0] and report.overview(run)["rounds_wanted"] is None
    assert ": 0 rounds committed" in terminal.show_status(terminal.status(run))


def test_what_is_waited_for_and_since_when_nothing_was_told(tmp_path: Path) -> None:
    record(str(tmp_path))
    ledger = Ledger(str(tmp_path))
    ledger.acquire("somebody")
    then = time.time() - 100
    ledger.events(make(RunStarted, 0, then))
    ledger.events(make(WaitingFor, 0, then, what="nodes", missing="2 GPUs"))
    ledger.flush()
    told = terminal.status(Run(str(tmp_path)))
    assert told["waiting"] == "nodes: 2 GPUs" and 100 <= float(str(told["silent"])) < 1000
    shown = terminal.show_status(told)
    assert "waiting for nodes: 2 GPUs" in shown and ", silent for 1" in shown
    ledger.events(make(LeaseChanged, 0, then + 1, role="worker", state="acquired", count=2))
    ledger.flush()
    assert terminal.status(Run(str(tmp_path)))["waiting"] is None
    ledger.close()
    told = terminal.status(Run(str(tmp_path)))
    assert told["waiting"] is None and told["silent"] is None


def test_a_status_that_is_watched_by_a_program_is_one_line_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(str(tmp_path))
    ledger = Ledger(str(tmp_path))
    ledger.acquire("somebody")
    monkeypatch.setattr("seal_ray.cli.look.time.sleep", lambda _: ledger.close())
    out = CliRunner().invoke(cli.app, ["status", str(tmp_path), "--watch", "--json"]).output
    assert [bool(json.loads(line)["holder"]) for line in out.splitlines()] == [True, False]


@pytest.mark.parametrize(
    ("command", "again"),
    [("run", "`seal-ray run`"), ("stream", "`seal-ray stream`"), ("probe or adapt", "the command that began it")],
)
def test_who_goes_on_with_a_run_is_the_command_that_began_it(command: str, again: str, tmp_path: Path) -> None:
    run, _ = begun(tmp_path, command, 3)
    told = terminal.status(run) | {"ended": None}
    assert f"nobody drives it; it stopped in phase None; {again}" in terminal.show_status(told)


def test_whoever_may_only_read_sees_who_drives_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(str(tmp_path))
    ledger = Ledger(str(tmp_path))
    ledger.acquire("somebody")

    def refused(_: LocalFiles) -> float:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "now", refused)
        holder = Run(str(tmp_path)).ledger.holder()
    ledger.close()
    assert holder and holder.owner == "somebody"
    assert Run(str(tmp_path)).ledger.holder() is None

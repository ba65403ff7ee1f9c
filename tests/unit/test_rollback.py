"""Going back to an earlier version: whatever tells or hands out the current version follows."""

from pathlib import Path

import pytest
from made_runs import configured, go, towns
from two_versions import two_versions
from typer.testing import CliRunner

from seal_ray.cli import app
from seal_ray.commands import decisions, terminal
from seal_ray.commands.export import export
from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run, find_version
from seal_ray.policy import versions
from seal_ray.records import ADAPTER, Version, encode
from seal_ray.storage.ledger import Ledger


@pytest.fixture
def run(tmp_path: Path) -> str:
    uri = str(tmp_path / "run")
    two_versions(uri, tmp_path)
    return uri


def exported(uri: str, to: Path) -> bytes:
    export(Run(uri), to, kind="adapter", number=0)
    return (to / ADAPTER).read_bytes()


def made(uri: str, number: int) -> bytes:
    return (Path(uri).parent / f"made-{number}" / ADAPTER).read_bytes()


def test_export_hands_out_the_version_that_was_gone_back_to(run: str, tmp_path: Path) -> None:
    assert exported(run, tmp_path / "before") == made(run, 2)
    decisions.rollback(run, StorageSection(), to=1, why="it writes worse edits")
    assert exported(run, tmp_path / "after") == made(run, 1)
    export(Run(run), tmp_path / "named", kind="adapter", number=2)
    assert (tmp_path / "named" / ADAPTER).read_bytes() == made(run, 2), "a round that is named is what it was"


def test_back_at_the_base_there_is_nothing_to_export(run: str, tmp_path: Path) -> None:
    decisions.rollback(run, StorageSection(), to=0, why="")
    with pytest.raises(ConfigError, match="base model is current"):
        exported(run, tmp_path / "out")


def test_status_and_lineage_say_which_version_is_current_and_who_went_back(run: str) -> None:
    assert terminal.status(Run(run))["current"] == 2
    decisions.rollback(run, StorageSection(), to=1, why="it writes worse edits")
    found = terminal.status(Run(run))
    assert found["current"] == 1 and found["rollback"]["why"] == "it writes worse edits"
    assert "version 1 is current" in terminal.show_status(found)
    assert "it writes worse edits" in terminal.show_status(found)
    (root,) = Run(run).lineage()
    (one,) = root["children"]
    assert [root["current"], one["current"], one["children"][0]["current"]] == [False, True, False]
    lines = versions.tree([root]).splitlines()
    assert ["current" in line for line in lines] == [False, True, False]
    told = CliRunner().invoke(app, ["lineage", run]).output.splitlines()
    assert [line.rstrip() for line in told] == [line.rstrip() for line in lines]


def test_one_may_think_again_before_the_next_round_begins(run: str, tmp_path: Path) -> None:
    for to in (1, 0, 1):
        decisions.rollback(run, StorageSection(), to=to, why=f"to {to}")
        current = Run(run).current()
        assert current is not None and current.number == to
    told = terminal.status(Run(run))
    assert [r["round"] for r in told["rounds"]] == [1, 2], "of the round after there is but a word"
    decisions.rollback(run, StorageSection(), to=2, why="it was better after all")
    current = Run(run).current()
    assert current is not None and current.number == 2 and exported(run, tmp_path / "out") == made(run, 2)


def test_the_version_that_is_current_is_not_gone_back_to(run: str) -> None:
    with pytest.raises(ConfigError, match=r"that version of .* is current already"):
        decisions.rollback(run, StorageSection(), to=2, why="")
    with pytest.raises(ConfigError, match="has the rounds 1 to 2"):
        decisions.rollback(run, StorageSection(), to=3, why="")


def test_the_round_after_is_written_by_the_version_that_was_gone_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held version is approved, its round committed, and the base made current again, with a made-up crew."""
    data, uri = towns(tmp_path / "towns.json"), tmp_path / "run"
    settings = {"gate.mode": "hold", "gate.tasks": 2, "gate.edits": 1, "evaluation.every": 0, "inner.repeats": 1}
    held, _, _ = go(configured(data, uri, **settings, **{"run.rounds": 1}), monkeypatch)
    assert held.held() == 1
    decisions.decide(str(uri), StorageSection(), accept=True, why="seen by hand")
    approved, crew, _ = go(configured(data, uri, **settings, **{"run.rounds": 1}), monkeypatch)
    assert approved.latest == 1 and not crew.tried, "every trial was there"
    decisions.rollback(str(uri), StorageSection(), to=0, why="")
    run, crew, _ = go(configured(data, uri, **settings, **{"run.rounds": 2}), monkeypatch)
    one, two = run.rounds()
    assert one.version and two.version and two.version.digest == one.version.digest
    assert crew.sampled and two.version.number == 0 and run.held() == 2


def test_a_gate_that_was_answered_is_not_answered_again(run: str) -> None:
    ledger = Ledger(run)
    ledger.acquire("test")
    ledger.round(3).put("gate.json", {"decision": "hold", "advice": "accept", "figures": {}, "reasons": []})
    ledger.close()
    decisions.decide(run, StorageSection(), accept=True, why="looked at")
    with pytest.raises(ConfigError, match=r"round 3 of .* is decided already: accept, by "):
        decisions.decide(run, StorageSection(), accept=False, why="looked again")


def test_a_version_that_was_taken_from_another_run_does_not_hide_the_runs_own(run: str) -> None:
    borrowed, own = (Version(3, name, "base", None, "rounds/0003/version", "adapter", 4) for name in ("a", "b"))
    ledger = Ledger(run)
    ledger.acquire("test")
    part = ledger.round(3)
    part.put("tasks.json", {"tasks": [], "version": encode(borrowed)})  # it begins with the other run's version 3
    part.put("update.json", {"version": encode(own), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
    ledger.close()
    assert find_version(f"{run}#3", StorageSection())[0] == own

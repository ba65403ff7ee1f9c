"""A stream that is killed at any operation on its store goes on to the same matrix."""

import shutil
import signal
from pathlib import Path
from typing import Any

import ledger_round
import pytest
from bank_crew import BankCrew
from test_study import configured, matrices

from seal_ray.config import StorageSection
from seal_ray.loops import stream
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

SHORT = ["study.steps=2", "study.sequences=2", "study.keep.method=ewc", "policy.epochs=1"]


def drive(uri: Path) -> None:
    with Session(configured(uri, *SHORT), hire=BankCrew) as session:  # type: ignore[arg-type]
        stream.run_stream(session)


def result(uri: Path) -> Any:
    """All that a stream is: its matrices, and its versions down to their bytes."""
    run = Run(str(uri))
    return matrices(run), matrices(run, "accuracy"), [v.digest for v in run.versions()]


def killed(folder: Path, when: str, every: int = 0) -> int:
    """How often a stream was killed, at every so many operations or at each third of them; it comes to the same end."""
    counts = folder / "count"

    def whole() -> None:
        found = ledger_round.count_operations()
        drive(folder / "whole")
        counts.write_text(str(found()))

    assert ledger_round.forked(whole) == 0
    expected, kills, operations = result(folder / "whole"), 0, int(counts.read_text())
    every = every or operations // 3
    for kill_at in range(every, operations + 1, every):
        uri = folder / f"run-{when}-{kill_at}"

        def die(kill_at: int = kill_at, uri: Path = uri) -> None:
            ledger_round.count_operations(kill_at, when)
            drive(uri)

        ended = ledger_round.forked(die)
        assert ended in (0, -signal.SIGKILL), ended
        kills += ended == -signal.SIGKILL
        assert ledger_round.forked(lambda uri=uri: drive(uri)) == 0, (when, kill_at)
        assert result(uri) == expected, f"killed {when} operation {kill_at}"
        grave = [p for p in verify(Ledger(str(uri), StorageSection(), read_only=True)) if p.grave]
        assert not grave, (when, kill_at, grave)
        shutil.rmtree(uri)
    return kills


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stream_killed_here_and_there_ends_with_the_same_matrix(tmp_path: Path, when: str) -> None:
    assert killed(tmp_path, when) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("when", "every"), [("before", 1), ("after", 4)])
def test_a_stream_killed_at_every_operation_ends_with_the_same_matrix(tmp_path: Path, when: str, every: int) -> None:
    """After one is as before the next but for what the driver alone knew."""
    kills = killed(tmp_path, when, every)
    print(f"{kills} kills {when} an operation")
    assert kills >= 120 // every

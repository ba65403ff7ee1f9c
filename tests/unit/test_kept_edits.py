"""What a policy is taught away from is not kept, wherever kept edits are counted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorded_run import record

from seal_ray.commands import regrade, report, terminal
from seal_ray.config import Config, SelectSection
from seal_ray.events import EditsSelected
from seal_ray.loops import rounds
from seal_ray.loops.history import Round, Run
from seal_ray.records import encode


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose one round was chosen by grpo: of every task some edits up, the others down."""
    monkeypatch.setattr("recorded_run.SelectSection", lambda: SelectSection(algorithm="grpo", margin=0))
    record(str(tmp_path / "run"))
    return Run(str(tmp_path / "run"))


def kept(round_: Round) -> int:
    up = sum(choice.weight > 0 for choice in round_.choices)
    assert 0 < up < len(round_.choices)
    return up


def test_status_report_and_pages_count_what_is_kept(run: Run) -> None:
    (round_,) = run.rounds()
    (told,) = terminal.status(run)["rounds"]  # type: ignore[misc]
    figures: Any = report.overview(run)["rounds"]
    pages = [page for page in report.pages(run) if page.task["part"] == "train"]
    counts = [told["kept"], figures[0]["kept"], sum(int(str(page.task["kept"])) for page in pages)]  # type: ignore[index, call-overload]
    assert counts == [kept(round_)] * 3
    assert sum(chosen for _, chosen in figures[0]["rewards"]) == kept(round_)


def test_inspect_says_what_is_taught_away_from(run: Run) -> None:
    (round_,) = run.rounds()
    shown = "".join(terminal.show_inspection(terminal.inspect(run, task=task.id)) for task in round_.tasks)
    assert shown.count("KEPT: ") == kept(round_)
    assert shown.count("TAUGHT AWAY FROM: ") == len(round_.choices) - kept(round_)


def test_a_regrade_compares_what_would_be_kept(run: Run) -> None:
    (round_,) = run.rounds()
    document = {"choices": [encode(c) for c in round_.choices], "rewards": {"arms": {}, "reliability": {}}}
    told = regrade._compared(round_, [], document)
    assert (told["kept"], told["would_keep"], told["kept_by_both"]) == (kept(round_),) * 3


def test_the_event_counts_what_is_kept(run: Run) -> None:
    (round_,) = run.rounds()
    known = {"choices": [encode(c) for c in round_.choices], "abstained": {}, "kept": None}
    heard: list[EditsSelected] = []
    session: Any = SimpleNamespace(config=Config(), tell=heard.append)
    part: Any = SimpleNamespace(number=1, get=lambda name: known)
    chosen = rounds.selected(session, part, None)  # type: ignore[arg-type]
    assert len(chosen) == len(round_.choices) and heard[0].choices == kept(round_)

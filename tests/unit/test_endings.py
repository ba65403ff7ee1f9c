"""What a run costs when something starts it again: spending goes on counting, an end for good stays one."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorded_crew import RecordedCrew, configured

from seal_ray import config_file, models
from seal_ray.config import Config
from seal_ray.errors import BudgetSpent, ConfigError, DataError, InfraError, Interrupted, SealError, Unlearnable
from seal_ray.events import RunStarted, WaitingFor
from seal_ray.loops import resuming, rounds
from seal_ray.loops.ending import Ending, fingerprint
from seal_ray.loops.history import Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session
from seal_ray.records import encode
from seal_ray.redaction import redacted
from seal_ray.storage import epochs
from seal_ray.storage.ledger import Ledger

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).parent / "seal-ray")


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the recorded configuration names its data from there


@pytest.fixture(scope="module")
def recorded() -> Run:
    return Run(str(ROOT / "tests/recorded/v0.1.0/run"))


class CostlyCrew(RecordedCrew):
    """Each of its trials takes an hour of a GPU."""

    def gpu_hours(self) -> float:
        return float(len(self.tried))


class BrokenCrew(RecordedCrew):
    """Its samplers find that the data can't be used."""

    def samplers(self, version: Any, adapter: str | None) -> Any:
        raise DataError("no label for token 7", hint="fix the data")


def go(config: Config, crew: RecordedCrew, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    monkeypatch.setattr(rounds, "update", crew.update)
    with Session(config, hire=lambda *_: crew, **more) as session:  # type: ignore[arg-type,return-value]
        run_rounds(session)


def nothing_is_paid(config: Config, monkeypatch: pytest.MonkeyPatch) -> SealError:
    """How a restart ends, that may neither fetch a model nor ask for a cluster."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was begun")

    with monkeypatch.context() as patch:
        patch.setattr(models, "whole", never)
        with pytest.raises(SealError) as raised:
            Session(config, hire=never)
    return raised.value


def test_what_was_spent_before_a_restart_counts(recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(recorded, tmp_path / "run", "run.budget.gpu_hours=8")
    crews: list[CostlyCrew] = []
    for _ in range(2):
        crew = CostlyCrew(recorded)
        crews.append(crew)
        with pytest.raises(Interrupted):
            go(config, crew, monkeypatch, stop=lambda crew=crew: len(crew.tried) >= 3)
    assert Ledger(config.run.uri).note()["spent"]["gpu_hours"] == sum(len(c.tried) for c in crews) < 8
    with pytest.raises(BudgetSpent, match="gpu_hours: 8"):
        go(config, CostlyCrew(recorded), monkeypatch)
    again = nothing_is_paid(config, monkeypatch)
    assert isinstance(again, BudgetSpent) and again.exit_code == 5 and "ended for good" in str(again)
    go(configured(recorded, tmp_path / "run", "run.budget.gpu_hours=100"), CostlyCrew(recorded), monkeypatch)
    assert Run(config.run.uri).round(1).committed


def test_an_end_for_good_is_the_same_the_second_time_and_costs_nothing(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run")
    with pytest.raises(DataError, match="no label"):
        go(config, BrokenCrew(recorded), monkeypatch)
    again = nothing_is_paid(config, monkeypatch)
    assert isinstance(again, DataError) and again.exit_code == 2
    assert "no label for token 7" in str(again) and "--set run.resume=again" in str(again)
    with pytest.raises(DataError, match="no label"):  # another look is another start
        go(configured(recorded, tmp_path / "run", "run.resume=again"), BrokenCrew(recorded), monkeypatch)
    go(configured(recorded, tmp_path / "run", "run.resume=again"), RecordedCrew(recorded), monkeypatch)
    go(config, RecordedCrew(recorded), monkeypatch)  # it did not end for good the last time


def test_what_may_pass_is_tried_again(recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(recorded, tmp_path / "run")

    class Lost(RecordedCrew):
        def samplers(self, version: Any, adapter: str | None) -> Any:
            raise InfraError("no node")

    with pytest.raises(InfraError):
        go(config, Lost(recorded), monkeypatch)
    go(config, RecordedCrew(recorded), monkeypatch)
    assert Run(config.run.uri).round(1).committed


def test_a_driver_waits_for_the_lease_of_one_that_may_be_dead(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run", "storage.lease=8")
    with pytest.raises(Interrupted):
        go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True)
    dead = Ledger(config.run.uri, config.storage)
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "this_process", dict)  # on another machine: nobody here can tell that it is dead
        dead.acquire("elsewhere")
    assert dead._connection.hold
    dead._connection.hold.stop()  # no more signs of life, and no release
    heard: list[Any] = []
    go(config, RecordedCrew(recorded), monkeypatch, listeners=[heard.append])
    assert [type(e) for e in heard[:2]] == [WaitingFor, RunStarted] and "elsewhere" in heard[0].what
    assert heard[1].epoch == 3


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_driver_adds_while_it_is_waited_for_counts(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    config = configured(recorded, tmp_path / "run", "storage.lease=8", "run.budget.gpu_hours=8")
    with pytest.raises(Interrupted):
        go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True)
    other = Ledger(config.run.uri, config.storage)
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "this_process", dict)  # on another machine
        other.acquire("elsewhere")
    why = Ending("DataError", "no label for token 7", "fix the data", fingerprint(config)) if ended else None

    def winds_up(event: Any) -> None:
        if isinstance(event, WaitingFor):
            other.leave_note(lambda: {"spent": {"gpu_hours": 9.0}, "ending": encode(why)})
            other.close()

    error = DataError if ended else BudgetSpent
    with pytest.raises(error, match="ended for good: no label" if ended else "gpu_hours: 8 is spent"):
        go(config, RecordedCrew(recorded), monkeypatch, listeners=[winds_up])
    assert Ledger(config.run.uri).note()["spent"]["gpu_hours"] == 9
    assert isinstance(nothing_is_paid(config, monkeypatch), error)


def test_a_run_ends_as_its_loop_says_also_where_what_it_held_can_not_be_given_back(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(BrokenCrew):
        def release(self, *roles: Any) -> None:
            raise InfraError("a GPU is still held")

        def close(self) -> None:
            self.release()

    config = configured(recorded, tmp_path / "run")
    with pytest.raises(DataError, match="no label"):
        go(config, Stuck(recorded), monkeypatch)
    assert isinstance(nothing_is_paid(config, monkeypatch), DataError), "the end is in the ledger, and nobody holds it"


def test_a_gate_without_anything_to_compare_by_is_refused_before_a_run_begins(recorded: Run, tmp_path: Path) -> None:
    config = configured(recorded, tmp_path / "run", "gate.mode=auto", "domain.validation=0")
    with pytest.raises(ConfigError, match=r"gate\.mode: auto needs validation tasks, and there are 0"):
        rounds.run(config)
    assert not Ledger(config.run.uri).exists(), "the mend is another configuration, and would not be the run's"


def test_a_setting_that_holds_a_secret_of_this_process_is_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file.parse("", "the defaults", [f"run.uri={tmp_path}/run", "model.name=builtin:tiny"])
    ledger = Ledger(config.run.uri)
    ledger.create(redacted(config.model_dump(mode="json")), {}, config.run.seed)
    monkeypatch.setenv("BUILD_KEY", "builtin:tiny")
    assert resuming.is_there(ledger, config)
    other = config_file.parse("", "the defaults", [f"run.uri={tmp_path}/run", "model.name=builtin:quickstart"])
    with pytest.raises(ConfigError, match=r"model\.name was"):
        resuming.is_there(ledger, other)


def test_a_run_that_is_stopped_leaves_half_of_the_configured_time_to_its_ledger(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []
    close, wind_up = Ledger.close, list[Any]()

    def noted(ledger: Ledger, *, within: float | None = None) -> None:
        given.append(within)
        close(ledger, within=within)

    config = configured(recorded, tmp_path / "run", "storage.stop_within=40")
    monkeypatch.setattr(Ledger, "close", noted)
    with pytest.raises(Interrupted):
        go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True, on_stop=wind_up.append)
    assert given == [20]
    wind_up[0]()  # what the command line calls where the loop is stuck
    assert given == [20, 20]


def test_a_driver_that_lives_is_not_waited_for_to_the_end(recorded: Run, tmp_path: Path) -> None:
    config = configured(recorded, tmp_path / "run", "storage.lease=8")
    other = Ledger(config.run.uri, config.storage)
    other.create(config.model_dump(mode="json"), {}, config.run.seed)
    other.acquire("elsewhere")
    try:
        with pytest.raises(InfraError, match="is driven by elsewhere"):
            Session(config)
    finally:
        other.close()


def test_a_note_outlives_drivers_that_leave_none(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    first = Ledger(uri)
    first.create({}, {}, 1)
    assert first.note() == {}
    first.acquire("a")
    first.leave_note(lambda: {"spent": 3})
    assert first.note() == {"spent": 3}, "a driver that is killed leaves nothing"
    first.close()
    second = Ledger(uri)
    second.acquire("b")
    assert second.note() == {"spent": 3}
    second.close()


@pytest.mark.parametrize(("words", "code"), [((), 2), (("--zero-when-final",), 0)])
def test_where_whatever_failed_is_restarted_an_end_for_good_can_be_left_with_zero(
    tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    (tmp_path / "run.yaml").write_text("inner: {rank: 0}")
    done = subprocess.run(
        [COMMAND, "run", str(tmp_path / "run.yaml"), *words], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == code and "inner.rank" in done.stderr
    assert ("ended for good with code 2" in done.stderr.splitlines()[-1]) == (code == 0)


def test_a_limit_in_dollars_wants_a_judge_with_a_price() -> None:
    words = ["grading.grader=judge", "grading.judge_url=http://localhost:1/v1", "grading.judge_model=m"]
    limit = "run.budget.judge_dollars=3"
    with pytest.raises(SealError, match="the judge has no price"):
        config_file.parse("", "the defaults", [*words, limit])
    config_file.parse("", "the defaults", [*words, limit, "grading.judge_price_out=1"])
    config_file.parse("", "the defaults", [limit])  # nobody is asked for money


def test_an_update_that_can_not_be_made_now_is_made_later_and_one_that_never_can_is_left_out(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(RecordedCrew):
        error: SealError

        def update(self, job: Any, *, sink: Any, tick: Any) -> Any:
            raise self.error

    crew, config = Failing(recorded), configured(recorded, tmp_path / "run")
    crew.error = DataError("model.safetensors can't be read")  # on the trainer's node, now
    with pytest.raises(InfraError, match=r"could not be made: model\.safetensors can't be read"):
        go(config, crew, monkeypatch)
    assert Ledger(config.run.uri).round(1).get("update.json") is None
    go(config, RecordedCrew(recorded), monkeypatch)
    assert (Run(config.run.uri).round(1).update or {})["version"]

    crew.error, other = Unlearnable("the loss is nan"), configured(recorded, tmp_path / "other")
    go(other, crew, monkeypatch)
    made = Run(other.run.uri).round(1)
    assert made.committed and (made.update or {}) == {"version": None, "reason": "the loss is nan"}


def test_a_driver_that_leaves_where_it_is_stuck_leaves_no_scratch_behind(tmp_path: Path) -> None:
    def close(within: float) -> None:
        raise InfraError("the store does not answer")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stuck: Any = SimpleNamespace(config=Config(), ledger=SimpleNamespace(close=close), scratch=str(scratch))
    with pytest.raises(InfraError):
        Session.hand_over(stuck)
    assert not scratch.exists()

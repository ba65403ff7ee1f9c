"""A run that version 0.1.0 recorded: it is read, gone on with, and its candidates keep their names.

`tests/recorded/v0.1.0/run` was written by that version and is never written anew.
"""

import shutil
from pathlib import Path

import pytest

from seal_ray import config_file
from seal_ray.config import AnsweringSection, Config
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import Run
from seal_ray.loops.resuming import differences
from seal_ray.loops.session import Session
from seal_ray.storage.verification import verify

FOLDER = Path("tests/recorded/v0.1.0")


@pytest.fixture(scope="module")
def config() -> Config:
    return config_file.load(FOLDER / "job.yaml")


def test_a_recorded_run_is_read_whole() -> None:
    run = Run(str(FOLDER / "run"))
    one, two = run.rounds()
    assert one.committed and not two.committed and run.latest == 1
    assert [len(r.edits) for r in (one, two)] == [4, 4]
    assert [len(r.trials) for r in (one, two)] == [14, 14]
    assert two.version is not None and two.version.number == 1
    assert not verify(run.ledger)


def test_a_recorded_run_counts_as_configured_alike(config: Config) -> None:
    record = Run(str(FOLDER / "run")).record["config"]
    was, begun = config_file.resolved(record), config_file.as_begun(config, record)
    assert differences(was.model_dump(mode="json"), begun.model_dump(mode="json")) == []
    assert begun.grading.blend_of == "likelihood", "as runs did when this one began"


def test_a_field_that_came_later_does_not_set_a_recorded_run_apart() -> None:
    class Grown(AnsweringSection):
        think_first: bool = False

    class GrownConfig(Config):
        answering: Grown = Grown()  # pyright: ignore[reportIncompatibleVariableOverride]

    was = Config().model_dump(mode="json")
    assert "think_first" not in was["answering"]
    assert GrownConfig.model_validate(was) == GrownConfig()
    assert Grown().identity() == AnsweringSection().identity()
    assert Grown(think_first=True).identity() == AnsweringSection().identity() | {"think_first": True}


@pytest.mark.parametrize("number", [1, 2])
def test_candidates_of_a_recorded_round_keep_their_names(config: Config, number: int, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "run", tmp_path / "run")
    changes = {"uri": str(tmp_path / "run"), "rounds": 2}
    config = config.model_copy(update={"run": config.run.model_copy(update=changes)})
    past = Run(str(FOLDER / "run")).round(number)
    assert past.version is not None
    plan = Plan(past.tasks, past.version, config.sampling.edits, config.inner.repeats, context_arm=True, salt=number)
    with Session(config) as session:
        part = session.open_round(number)
        recorded = dict(part.records("candidates"))
        exploration = Exploration(session, part, plan)
    assert recorded and exploration.candidates == recorded
    assert exploration.done and exploration.trials.keys() == recorded.keys()
    assert not list(exploration.chunks())

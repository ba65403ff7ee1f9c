"""Where the edits of an evaluation's arms come from: files and teachers, for both domains. Nothing is trained here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeReply, says, serving

from seal_ray import config_file
from seal_ray.cli import start
from seal_ray.config import Config, ProbeSection
from seal_ray.errors import DataError, Interrupted
from seal_ray.loops import evaluation
from seal_ray.loops.arm_cost import ArmCost
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.session import Session
from seal_ray.policy import versions
from seal_ray.records import Edit, candidate_id, encode

ROOT = Path(__file__).parents[2]
PUZZLES = ROOT / "jobs/data/arc_tiny_challenges.json"
ARC = {
    "name": "arc",
    "data": str(PUZZLES),
    "learning_rates": [0.001],
    "epoch_choices": [2],
    "max_grid": 3,
    "max_examples": 8,
}
DIRECTIVES = {"basic": True, "size": False, "chain": False, "repeat": False, "loss": "output"}
DIRECTIVES |= {"learning_rate": 0.001, "epochs": 2}


class NoCrew:
    """Stands where machines are: none is asked for anything."""

    def release(self, *roles: str) -> None: ...
    def close(self) -> None: ...
    def gpu_hours(self) -> float:
        return 0.0


def opened(folder: Path, *changes: str) -> Session:
    words = [f"run.uri={folder / 'run'}", "observe.progress=quiet", "observe.ray_metrics=false", *changes]
    crew: Any = NoCrew()
    return Session(config_file.load(ROOT / "jobs/tiny.yaml", words), hire=lambda *_: crew)


@pytest.fixture
def puzzles(tmp_path: Path) -> Iterator[Session]:
    with opened(tmp_path, f"domain={json.dumps(ARC)}", "sampling.top_p=0.8") as session:
        yield session


@pytest.fixture
def passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(ROOT)
    with opened(tmp_path) as session:
        yield session


def test_progress_beside_a_json_result_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Config] = []

    def evaluate(config: Config, *_: Any, **__: Any) -> dict[str, Any]:
        asked.append(config)
        return {"tables": {}, "costs": {"none": encode(ArmCost())}, "against": "none"}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    start.evaluate(ROOT / "jobs/tiny.yaml", set_=[f"run.uri={tmp_path}"], as_json=True)
    assert asked[0].observe.progress == "json" and json.loads(capsys.readouterr().out)["against"] == "none"


def from_file(session: Session, path: Path, rows: Any) -> Any:
    path.write_text(json.dumps(rows))
    tasks = session.domain.tasks("train")[:2]
    return evaluation.edits_from_file(
        session.domain, session.config.storage, f"{path}#mine", tasks, versions.first(session.base)
    )


def test_directives_in_a_file_are_read_as_the_policys_own(puzzles: Session, tmp_path: Path) -> None:
    one, other = puzzles.domain.tasks("train")[:2]
    rows = [{"task": one.id, "mine": [DIRECTIVES, json.dumps(DIRECTIVES)]}, {"task": other.id, "mine": ""}]
    found = from_file(puzzles, tmp_path / "edits.json", rows)
    assert [(e.task, e.slot) for e in found] == [(one.id, 0), (one.id, 1), (other.id, 0)]
    assert found[0].content == found[1].content == puzzles.domain.parse(one, json.dumps(DIRECTIVES))
    assert found[2].content is None, "an empty edit is the context alone"
    examples, recipe = puzzles.domain.training(one, found[0].content, puzzles.tokenizer)
    assert examples and recipe.epochs == 2


def test_directives_that_can_not_be_read_are_an_error_of_the_file(puzzles: Session, tmp_path: Path) -> None:
    rows = [{"task": t.id, "mine": "just train"} for t in puzzles.domain.tasks("train")]
    with pytest.raises(DataError, match=r"edits\.json: an edit of task"):
        from_file(puzzles, tmp_path / "edits.json", rows)
    with pytest.raises(DataError, match="no edits under 'mine' for task"):
        from_file(puzzles, tmp_path / "edits.json", rows[5:])
    with pytest.raises(DataError, match="no list of tasks"):
        from_file(puzzles, tmp_path / "edits.json", ["text"])


def test_texts_in_a_file_are_taken_as_they_stand(passages: Session, tmp_path: Path) -> None:
    one, other = passages.domain.tasks("train")[:2]
    context = one.data["context"]
    rows = [{"context": context, "edits": {"mine": [context, " A. \n"]}}, {"task": other.id, "mine": ""}]
    found = from_file(passages, tmp_path / "edits.json", rows)
    assert [e.content for e in found] == [context, " A. \n", None]


def test_an_edit_that_reads_context_is_not_the_arm_of_that_name(passages: Session) -> None:
    task, version = passages.domain.tasks("train")[0], versions.first(passages.base)
    words = ["context", "baseline", "something else"]
    edits = tuple(Edit(w, task.id, n, version.digest, 0, (), (), (), w, "stop", w) for n, w in enumerate(words))
    plan = Plan((task,), version, 3, 1, context_arm=True, salt=1, given=edits)
    attempts = Exploration(passages, passages.open_round(1), plan).attempts(room=10)
    made = [(a.candidate.kind, a.candidate.edit) for a in attempts]
    assert made == [("baseline", None), ("context", None), *(("edit", word) for word in words)]
    assert len({a.examples for a in attempts}) == 5, "the word was learned as the passage is, or not at all"
    for attempt, word in zip(attempts[3:], words[1:], strict=True):
        c, answering = attempt.candidate, passages.config.answering.identity()
        known = candidate_id(version.digest, task.digest, word, c.recipe, answering, c.seed)
        assert c.id == known, "what older runs have tried has lost its name"


def test_a_teacher_is_asked_as_the_policy_is(puzzles: Session) -> None:
    tasks = puzzles.domain.tasks("train")[:1]
    version = versions.first(puzzles.base)

    def teach(body: dict[str, Any], attempt: int) -> JudgeReply:
        return says(json.dumps(DIRECTIVES))

    with serving(teach) as server:
        part = puzzles.open_round(1)
        found = evaluation._from_teacher(puzzles, f"{server.url}#t", tasks, version, part, 2)
        bodies = list(server.bodies)
    assert [e.content for e in found] == [puzzles.domain.parse(tasks[0], json.dumps(DIRECTIVES))] * 2
    asked = puzzles.domain.edit_request(tasks[0], 0)
    for body in bodies:
        assert body["top_p"] == 0.8 and body["max_tokens"] == asked.max_tokens
        assert body["response_format"]["json_schema"]["schema"] == asked.schema


def test_what_a_teacher_wrote_before_a_run_is_stopped_is_not_asked_for_again(
    puzzles: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, version, ticks = puzzles.domain.tasks("train")[:4], versions.first(puzzles.base), list[int]()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            raise Interrupted("stopped")

    puzzles.config = puzzles.config.model_copy(update={"probe": ProbeSection(chunk=3)})
    monkeypatch.setattr(puzzles, "tick", tick)
    with serving(lambda *_: says(json.dumps(DIRECTIVES))) as server:
        part, where = puzzles.open_round(1), f"{server.url}#t"
        with pytest.raises(Interrupted):
            evaluation._from_teacher(puzzles, where, tasks, version, part, 2)
        assert len(server.bodies) == len(part.records("edits")) == 6
        assert len(evaluation._from_teacher(puzzles, where, tasks, version, part, 2)) == 8
        assert len(server.bodies) == 8


def test_a_teacher_of_texts_writes_freely(passages: Session) -> None:
    task = passages.domain.tasks("train")[0]
    body = evaluation._asked(passages, task, 0)
    assert body["top_p"] == passages.config.sampling.top_p and "response_format" not in body

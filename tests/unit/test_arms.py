"""Arms by name: what they are, the settings of their own, and what they cost. Nothing is trained here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from counted_trials import counted
from one_worker_crew import OneWorkerCrew
from test_evaluation import opened
from text_model import byte_tokenizer

from seal_ray import config_file
from seal_ray.commands import evaluate as table
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.events import RoundCommitted
from seal_ray.loops import evaluation
from seal_ray.loops.arm import Arm
from seal_ray.loops.arm_cost import arm_cost
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.loops.varied_session import VariedSession
from seal_ray.policy import versions
from seal_ray.records import Answer, Cost, Edit, Failure, Trial
from seal_ray.sandbox import CaseResult, Program, ProgramResult

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("none", Arm("none", "none")),
        ("file:a:b.json#mine", Arm("file:a:b.json#mine", "file", "a:b.json#mine")),
        ("joined:untrained", Arm("joined:untrained", "untrained", joined=True)),
        (
            "joined:file:dogs with cats.json#k with inner.lr=0.1 inner.objective=distill",
            Arm(
                "joined:file:dogs with cats.json#k with inner.lr=0.1 inner.objective=distill",
                "file",
                "dogs with cats.json#k",
                True,
                ("inner.lr=0.1", "inner.objective=distill"),
            ),
        ),
    ],
)
def test_an_arms_name_says_what_it_is(name: str, arm: Arm) -> None:
    assert Arm.of(name) == arm


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no such arm"),
        ("best", "no such arm"),
        ("joined:none", "no such arm"),
        ("untrained with ", "no settings"),
        ("untrained with distill", "no setting of an arm"),
        ("untrained with policy.lr=1", "no setting of an arm"),
        ("untrained with domain.data=x.json", "same for all arms"),
        ("untrained with inner.wave=3", "same for all arms"),
        ("untrained with answering.how=engine", "same for all arms"),
    ],
)
def test_what_is_no_arm_is_refused_before_anything_is_tried(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Arm.of(name)


def test_a_setting_that_can_not_be_had_is_refused_with_its_key() -> None:
    config = Config()
    own = Arm.of("untrained with inner.objective=distill answering.temperature=0.5").configured(config)
    assert own.inner.objective == "distill" and own.answering.temperature == 0.5
    assert own.model_dump(exclude={"inner", "answering"}) == config.model_dump(exclude={"inner", "answering"})
    for setting, key in (("inner.objective=guess", "inner.objective"), ("inner.speed=2", "inner.speed")):
        with pytest.raises(ConfigError, match=key):
            Arm.of(f"untrained with {setting}").configured(config)
    assert Arm.of("untrained").configured(config) is config


def test_a_session_with_other_settings_tries_differently_and_shares_the_rest(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        config = Arm.of("untrained with inner.objective=distill").configured(session.config)
        other = VariedSession(session, config)
        task = session.domain.tasks("train")[0]
        assert not session.domain.training(task, "One.\nTwo.", session.tokenizer)[0][0].teacher
        assert other.domain.training(task, "One.\nTwo.", session.tokenizer)[0][0].teacher
        assert other.crew is session.crew and other.ledger is session.ledger and other.spending is session.spending
        assert session.config.inner.objective == "text"


def test_programs_of_an_arm_with_other_settings_run_where_those_of_the_others_do(tmp_path: Path) -> None:
    rows = [{"id": f"t{n}", "prompt": "Add.", "solution": "", "tests": ["assert add(1, 2) == 3"] * 3} for n in range(4)]
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    code = {"name": "code", "data": str(tmp_path / "tasks.json"), "isolation": "none"}
    ran: list[str] = []

    def on_cluster(programs: Sequence[Program], *_: Any) -> list[ProgramResult]:
        ran.extend(program.solution for program in programs)
        return [ProgramResult((CaseResult("passed"),)) for _ in programs]

    with opened(tmp_path, f"domain={json.dumps(code)}", "grading.grader=exact", "grading.reward=accuracy") as session:
        other = VariedSession(session, Arm.of("untrained with inner.epochs=5").configured(session.config))
        session.crew.run_programs = on_cluster  # type: ignore[method-assign]
        task = other.domain.tasks("train")[0]
        (verdict,) = other.domain.verdicts(task, "c", [Answer("program", "x = 1", 3, "stop", -1.0)], session.grader)
    assert ran == ["x = 1"] and verdict.correct


def test_joined_edits_are_one_for_each_task(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        one, other = session.domain.tasks("train")[:2]
        version = versions.first(session.base)
        lost = Failure("no_text", "empty")

        def edit(name: str, task: str, slot: int, content: object, failure: Failure | None = None) -> Edit:
            return Edit(name, task, slot, "v", 0, (), (), (), str(content), "stop", content, failure)

        edits = [edit("b", one.id, 1, "Two."), edit("a", one.id, 0, "One."), edit("c", one.id, 2, None, lost)]
        joined = evaluation._joined(Arm.of("joined:untrained"), (one, other), edits, version)
        assert [(e.task, e.slot, e.content) for e in joined] == [(one.id, 0, ["One.", "Two."]), (other.id, 0, None)]
        assert joined[0].failure is None and joined[1].failure and joined[1].failure.kind == "no_text"
        assert session.domain.texts(one, joined[0].content)[:2] == [
            f"{one.data['title']}\nOne.",
            f"{one.data['title']}\nTwo.",
        ]
        with pytest.raises(ConfigError, match="only edits that are texts"):
            evaluation._joined(Arm.of("joined:untrained"), (one,), [edit("d", one.id, 0, {"epochs": 3})], version)


def test_costs_are_totals_and_shown_a_candidate() -> None:
    edits = [
        Edit("a", "t", 0, "v", 0, (), (1, 2, 3), (0.0,) * 3, "abc", "stop", "abc"),
        Edit("b", "t", 1, "v", 0, (), (), (), "four", "stop", "four"),
    ]
    trials = [
        Trial("x", "t", cost=Cost(2.0, 1.0, 1.0, tokens=50, steps=6, taught=30, written=10)),
        Trial("y", "t", cost=Cost(1.0), failure=Failure("nan_loss", "broke")),
    ]
    tokenizer = byte_tokenizer()
    cost = arm_cost(edits, trials, tokenizer)
    assert (cost.candidates, cost.failed, cost.trained, cost.steps, cost.seconds) == (2, 1, 50, 6, 3.0)
    assert (cost.edit_tokens, cost.taught, cost.written) == (3 + len(tokenizer("four")["input_ids"]), 30, 10)
    shown = table.show({"against": "none", "tables": {}, "costs": {"untrained with x": vars(cost)}})
    assert "untrained with x" in shown and "1 failed" in shown and "1.50" in shown


def test_an_arm_tells_how_far_it_is_and_that_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "passages.json"
    rows = json.loads((ROOT / "seal_ray/demo/quickstart.json").read_text())[:2]
    data.write_text(json.dumps([row | {"edits": {"one": [row["context"][:60]]}} for row in rows]))
    words = [f"run.uri={tmp_path / 'run'}", f"domain.data={data}", "domain.validation=0", "domain.test=0"]
    words += ["inner.repeats=2", "inner.epochs=1", "observe.progress=quiet", "observe.ray_metrics=false"]
    config = config_file.load(ROOT / "jobs/tiny.yaml", words)
    monkeypatch.setattr(evaluation, "Session", lambda *a, **k: Session(*a, **k, hire=OneWorkerCrew))  # type: ignore[arg-type]
    arms = ["none", "context", f"file:{data}#one", f"file:{data}#one with inner.repeats=1"]
    evaluation.evaluate(config, arms, split="train")
    events = Run(config.run.uri).events()
    assert counted(events, config) == [(2, 2), (6, 6), (6, 6), (4, 4)]
    told = [e for e in events if isinstance(e, RoundCommitted)]
    assert [(e.round, e.decision, e.version) for e in told] == [(n, "evaluated", 0) for n in (1, 2, 3, 4)]
    assert all(e.manifest for e in told)


def test_ways_to_learn_are_arms_of_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = json.loads((ROOT / "seal_ray/demo/quickstart.json").read_text())[:2]
    for p in passages:
        asked = [f"Question {n}: {q['question']}\nAnswer: {q['answer']}" for n, q in enumerate(p["questions"][:2], 1)]
        p["edits"] = {"notes": [p["context"][:60], p["context"][60:140]], "asked": "\n\n".join(asked)}
    data = tmp_path / "passages.json"
    data.write_text(json.dumps(passages))
    notes, asked = f"file:{data}#notes", f"file:{data}#asked"
    ways = {"answers": asked, "distill": notes, "distill_on_policy": asked}
    arms = ["none", notes, f"joined:{notes}"]
    arms += [f"{edits} with inner.objective={way} inner.answer_tokens=4" for way, edits in ways.items()]
    arms += [f"{asked} with answering.temperature=0.7 answering.top_p=0.9 answering.samples=2 inner.last_layers=1"]
    arms += [f"{notes} with inner.objective=answers"]
    words = [f"run.uri={tmp_path / 'run'}", f"domain.data={data}", "domain.validation=0", "domain.test=0"]
    words += ["inner.repeats=1", "observe.progress=quiet", "observe.ray_metrics=false"]
    config = config_file.load(ROOT / "jobs/tiny.yaml", words)
    monkeypatch.setattr(evaluation, "Session", lambda *a, **k: Session(*a, **k, hire=OneWorkerCrew))  # type: ignore[arg-type]
    found: Any = evaluation.evaluate(config, arms, split="train")
    likelihood, costs = found["tables"]["likelihood"], found["costs"]
    assert list(costs) == arms
    means = [likelihood[arm]["mean"]["mean"] for arm in arms[:-1]]
    assert len({round(mean, 6) for mean in means}) == len(means), "each arm learns in its own way"
    assert "missing" in likelihood[arms[-1]] and costs[arms[-1]]["failed"] == costs[arms[-1]]["candidates"] == 4
    assert [costs[arm]["candidates"] for arm in arms[:3]] == [0, 4, 2]
    assert [costs[arm]["taught"] > 0 for arm in arms] == [False] * 4 + [True, True, False, False]
    assert [costs[arm]["written"] > 0 for arm in arms] == [False] * 5 + [True, False, False]
    run = Run(config.run.uri)
    kinds = {t.failure.kind for t in run.round(len(arms)).trials if t.failure}
    assert kinds == {"no_pairs"}, "failed by its own kind, and no zero"
    drawn = [t for t in run.round(7).trials if t.losses]
    assert drawn and all(len(t.answers) == 4 for t in drawn), "two questions, two samples each"
    assert evaluation.evaluate(config, arms, split="train") == found, "what is recorded is not done again"
    assert arms[3] in table.show(found)

"""The map of a model that was really trained on half of a made-up world's facts finds the other half."""

import json
from pathlib import Path
from typing import Any

import one_process_crew
import pytest
from knowing_crew import LIKE_THESE, folder, world
from test_probe import area_under_curve

from seal_ray import models
from seal_ray.commands import probe as command
from seal_ray.loops import rounds
from seal_ray.loops.probe import every_task, look, make_tests
from seal_ray.loops.session import Session
from seal_ray.policy import versions
from seal_ray.policy.lessons import Lesson, lesson_text

SETTINGS = (
    "model.dtype=float32", "probe.questions=0", "probe.samples=2", "answering.max_tokens=4", "sampling.top_p=1",
    "policy.rank=16", "policy.alpha=32", "policy.epochs=40", "policy.lr=1e-2", "policy.global_batch=4",
    "policy.dtype=float32", "policy.checkpointing=false", "inner.repeats=1",
)  # fmt: skip


def test_the_map_of_a_model_that_was_trained_on_half_of_the_facts_finds_the_other_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = world(24)
    known = set(list(facts)[::2])
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps([{"question": f"Where was {n} born?", "answer": t} for n, t in facts.items()]))
    docs = folder(tmp_path, facts)
    config = command.configured(
        str(docs), [f"run.uri={tmp_path / 'run'}", *LIKE_THESE, *SETTINGS, f"domain.questions={asked}"]
    )
    monkeypatch.setattr(rounds, "update", one_process_crew.update)
    hire: Any = one_process_crew.OneProcessCrew().hire
    with Session(config, hire=hire) as session:
        part, base = session.open_round(1), versions.first(session.base)
        tests = make_tests(session, part, every_task(session))
        before = look(session, part, base, tests)
        lessons = [
            Lesson(q.id, t.id, lesson_text(models.render(session.tokenizer, q.prompt), _answer(session, q)))
            for t in tests.tasks
            for q in session.domain.questions(t)
            if q.text.removeprefix("Where was ").removesuffix(" born?") in known
        ]
        assert len(lessons) == 12
        part = session.open_round(2)
        part.put("tasks.json", {"tasks": [], "version": None})
        new = rounds.learn(session, part, base, lessons)
        assert new
        after = look(session, part, new, tests)

    def doubts(told: Any, *, taught: bool) -> list[float]:
        return [q.doubt for q in told.questions if any(n in q.text for n in known) == taught]

    assert area_under_curve(doubts(after, taught=False), doubts(after, taught=True)) >= 0.9
    assert 0.2 < area_under_curve(doubts(before, taught=False), doubts(before, taught=True)) < 0.8


def _answer(session: Session, question: Any) -> list[int]:
    return [*models.text_ids(session.tokenizer, question.lead + question.gold[0]), session.tokenizer.eos_token_id]

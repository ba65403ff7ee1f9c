"""Held-out questions of an adaptation, asked of what is served: which ones, and what the figures say."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from knowing_crew import KnowingCrew, folder, world
from test_adapt import configured, go

from seal_ray.commands import adapt as command
from seal_ray.commands.ask import SideBySide
from seal_ray.commands.served import Served
from seal_ray.config import ModelSection
from seal_ray.errors import ConfigError


@pytest.fixture
def program() -> ModuleType:
    return importlib.import_module("served_answers")


def test_what_was_held_out_is_asked_under_its_own_title(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = world(8)
    config = configured(tmp_path, folder(tmp_path, facts))
    done = go(config, KnowingCrew({}), monkeypatch)
    command.write(done, config, tmp_path / "mine")
    asked = program.held_out(tmp_path / "mine")
    assert {q.question for q in asked} == {q.text for q in done.before.questions if q.held_out} and asked
    assert {q.title for q in asked} <= {"Register 0", "Register 4"}

    def answers(url: str, key: str, served: Served, question: str, *, topic: str, max_tokens: int) -> SideBySide:
        name = question.split(" was ")[1].removesuffix(" born?")
        assert topic in {q.title for q in asked}
        return SideBySide(question, topic, {"base": "Nowhere", "mine": facts[name]})

    monkeypatch.setattr(program.ask, "ask_server", answers)
    served = Served("", ModelSection(), {"mine": ""})
    rows = program.compare("http://x/v1", "", served, asked)
    told = program.figures(rows)
    assert (told["base"], told["adapted"], told["gain"], told["low"], told["high"]) == (0, 1, 1, 1, 1)
    assert "0% → 100% right, +100 points" in program.shown(rows, told)[-1]


def test_the_interval_is_that_of_the_gain_over_questions(program: ModuleType) -> None:
    rows = [program.Asked("q", "g", "", "", (n % 4 == 0, n % 2 == 0)) for n in range(40)]
    told = program.figures(rows)
    assert (told["questions"], told["base"], told["adapted"], told["gain"]) == (40, 0.25, 0.5, 0.25)
    assert 0.1 < told["low"] < 0.25 < told["high"] < 0.4


def test_without_held_out_questions_there_is_nothing_to_say(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "learned.json").write_text(json.dumps({"questions": []}))
    with pytest.raises(ConfigError, match="no held-out questions"):
        program.held_out(tmp_path)


def test_the_demo_folder_states_each_fact_twice_and_asks_for_it_in_other_words(tmp_path: Path) -> None:
    own = importlib.import_module("own_documents")
    docs, asked = own.write(tmp_path, own.PASSAGES, 2)
    questions: list[dict[str, Any]] = json.loads(asked.read_text())
    texts = {d.name: d.read_text() for d in docs.iterdir()}
    assert len(texts) == own.PASSAGES and len(questions) == 5 * own.PASSAGES
    assert all(texts[q["document"]].count(q["answer"]) >= 2 for q in questions)
    assert len({q["answer"] for q in questions}) == len(questions), "who guesses by kind is wrong"
    said = " ".join(texts.values())
    assert not any(q["question"].split(" ", 1)[1].rstrip("?") in said for q in questions)
    assert own.write(tmp_path / "again", own.PASSAGES, 2)[1].read_text() == asked.read_text()
    assert own.write(tmp_path / "other", own.PASSAGES, 3)[1].read_text() != asked.read_text()

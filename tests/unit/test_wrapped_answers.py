"""An answer is found in a passage wherever its lines end, and as words of its own before it is a part of others."""

import json
from typing import Any

import pytest

from seal_ray.domains.documents.cutting import CutPassage
from seal_ray.domains.documents.questions import place
from seal_ray.domains.documents.survey import SurveyedPassage
from seal_ray.loops.probing.changing import changed
from seal_ray.loops.probing.uncertainty import MappedQuestion
from seal_ray.loops.probing.validation import _unrelated
from seal_ray.loops.probing.weak import weak_sentences
from seal_ray.records import ProbeQuestion, Task
from seal_ray.text import whole_words


def placed(answer: str, *texts: str) -> list[int]:
    passages = [SurveyedPassage("a.md", CutPassage("A", (), text)) for text in texts]
    asked = json.dumps([{"question": "Who?", "answer": answer}]).encode()
    return [n for n, own in enumerate(place("asked.json", lambda uri: asked, passages, lambda odd: None)) if own]


@pytest.mark.parametrize(
    ("answer", "texts", "where"),
    [
        ("Odalys Wren", ("Nobody.", "It was built by Odalys\nWren."), [1]),
        ("Odalys\n Wren", ("Nobody.", "It was built by Odalys Wren."), [1]),
        ("4", ("It has 42 dials.", "It has 4 dials."), [1]),
        ("4", ("It has 42 dials.", "Nobody."), [0]),
        ("$4", ("It cost $42.", "It cost $4."), [1]),
        ("11", ("它有110个表盘。", "它有11个表盘。"), [1]),
        ("奥达利斯", ("没有人。", "潮汐钟由奥达\n利斯建造。"), [1]),
        ("โอดาลิส", ("ไม่มีใคร", "สร้างโดยโอดาลิสในปี"), [1]),
    ],
)
def test_a_question_goes_where_its_answer_stands(answer: str, texts: tuple[str, ...], where: list[int]) -> None:
    assert placed(answer, *texts) == where


@pytest.mark.parametrize(
    ("passage", "answer", "left"),
    [
        ("潮汐钟由奥达利斯建造。", "奥达利斯", "潮汐钟由{}建造。"),
        ("潮汐钟由奥达\n利斯建造。", "奥达利斯", "潮汐钟由{}建造。"),
        ("潮汐钟有11个表盘。", "11", "潮汐钟有{}个表盘。"),
        ("时钟 clock由奥达建造", "由奥达", "时钟 clock{}建造"),
        ("It was built by Odalys\n  Wren.", "Odalys Wren", "It was built by {}."),
        ("It was built by Odalys Wren.", "Odalys\nWren", "It was built by {}."),
    ],
)
def test_a_fact_is_changed_in_scripts_without_spaces_and_across_lines(passage: str, answer: str, left: str) -> None:
    made = changed(passage, answer, (), 1)
    assert made and made[0] == left.format(made[1]) and made[1] != answer


def test_a_weak_sentence_and_an_unrelated_passage_are_told_across_lines() -> None:
    text = "It ran on the tide.\nThe clock of Selmouth was built by Odalys\nWren, who had come from the islands."
    question = MappedQuestion("q", "t", "Who built it?", ("Odalys Wren",), (), 0, 0, 0, None, 1.0, False)
    about = {"q": ProbeQuestion("q", "t", "Who built it?", ("Odalys Wren",), "person")}
    assert weak_sentences(text, [question], about, 0.1) == [
        "The clock of Selmouth was built by Odalys Wren, who had come from the islands."
    ]
    tasks = {name: _task(name, text if name == "b" else "Nobody.") for name in "abc"}
    assert all(_unrelated(tasks, tasks["a"], ["odalys wren"], n) == tasks["c"] for n in range(8))


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("C++", "It was written in C++.", True),
        ("C++", "C++x", False),
        ("-5", "10-5", False),
        ("-5", "It was -5 there", True),
        ("Ada", "Adam", False),
        ("水", "水曜", True),
        ("Ada", "水Ada水", True),
    ],
)
def test_a_phrase_is_found_where_no_letter_beside_it_makes_another_word(phrase: str, text: str, found: bool) -> None:
    assert bool(whole_words(phrase, text)) is found


def _task(name: str, context: str) -> Any:
    return Task(name, {"title": name, "context": context, "questions": []}, group=name)

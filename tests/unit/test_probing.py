"""What a probe is made of: its prompts, the checks that only read, changed facts, and how doubt is counted."""

from typing import Any

import pytest

from seal_ray.loops.probing.changing import changed
from seal_ray.loops.probing.checks import failed, reading_checks
from seal_ray.loops.probing.prompts import answers_in, spread, writing_prompt, writing_schema
from seal_ray.loops.probing.uncertainty import entropy, mapped
from seal_ray.records import ProbeQuestion

CONTEXT = "Odalys Wren built a clock that ran on the tide. It drove eleven dials. In 1902 an eel stopped it."


@pytest.mark.parametrize(
    ("question", "answer", "name"),
    [
        ("What did the clock of Odalys Wren run on?", "the tide", None),
        ("How many dials did the clock of Odalys Wren drive?", "eleven", None),
        ("What does the passage say ran on the tide?", "a clock", "pointing"),
        ("What stopped it, according to this text?", "an eel", "pointing"),
        ("When did it stop?", "In 1902", "pointing"),
        ("Did the clock of Odalys Wren run on the tide?", "the tide", "leak"),
        ("What ran on the tide in Selmouth, the tide or wind?", "the tide", "leak"),
        ("Was the clock of Odalys Wren built of copper?", "a clock", "leak"),
        ("Tell me about Odalys Wren", "a clock", "form"),
        ("Why?", "a clock", "form"),
        ("What did Odalys Wren build?", "", "form"),
        ("What did Odalys Wren build? And when?", "a clock", "form"),
        ("What did Odalys Wren build in Selmouth?", "a barometer", "in passage"),
        ("What did Odalys Wren build in Selmouth?", " ".join(["long"] * 30), "form"),
        ("Was hat Odalys Wren gebaut, wie der Text sagt?", "a clock", "pointing"),
    ],
)
def test_what_reading_tells_of_a_question(question: str, answer: str, name: str | None) -> None:
    asked = ProbeQuestion("q", "t", question, (answer,) if answer else (), "model")
    found = failed(reading_checks(asked, CONTEXT, ()))
    assert (found.name if found else None) == name


def test_a_copy_of_another_question_is_one_with_the_same_words() -> None:
    first = ProbeQuestion("a", "t", "How many dials did the clock drive in the town?", ("eleven",), "model")
    again = ProbeQuestion("b", "t", "How many dials did the clock drive in that town?", ("eleven",), "model")
    other = ProbeQuestion("c", "t", "In which year did an eel stop the clock?", ("1902",), "model")
    assert not failed(reading_checks(first, CONTEXT, ()))
    assert failed(reading_checks(again, CONTEXT, [first]))
    assert not failed(reading_checks(other, CONTEXT, [first]))


def test_a_fact_is_changed_into_another_of_its_kind_and_everywhere() -> None:
    made = changed("In 1902 an eel came. The eel of 1902 was long.", "1902", (), 1)
    assert made and "1902" not in made[0] and made[0].count(made[1]) == 2 and len(made[1]) == 4
    made = changed(CONTEXT, "eleven", ["forty-two", "Selmouth", "the tide"], 1)
    assert made and made[1] == "forty-two"
    made = changed(CONTEXT, "Odalys Wren", ["forty-two", "Bram Tolliver"], 1)
    assert made and made[0].startswith("Bram Tolliver built")
    assert changed(CONTEXT, "the wind", (), 1) is None and changed(CONTEXT, "", (), 1) is None
    assert changed("Wrens are birds", "Wren", (), 1) is None, "a part of a word is no fact"


def test_answers_that_a_question_may_ask_for() -> None:
    offered = answers_in("Odalys Wren", "In 1909 Odalys Wren sold forty-two maps to Bram Tolliver for a ferry ticket.")
    assert offered[:3] == ["1909", "forty-two", "Bram Tolliver"] and "a ferry ticket" in offered
    assert "Odalys Wren" not in offered
    assert answers_in("水", "潮汐钟有十一个表盘。") == []
    schema = writing_schema("T", "Nothing here")
    assert schema["properties"]["answer"] == {"type": "string", "maxLength": 80}
    assert list(writing_schema("T", "In 1909 it rained.")["properties"]) == ["answer", "question"]


def test_evidence_is_covered_evenly() -> None:
    spans = [(n, n + 1) for n in range(10)]
    assert spread(spans, 2) == [(2, 3), (7, 8)]
    assert spread(spans[:2], 4) == [(0, 1), (1, 2), (0, 1), (1, 2)]
    assert spread([], 3) == [] and spread(spans, 0) == []


def test_a_base_model_goes_on_where_the_prompt_ends_and_a_chat_is_a_turn() -> None:
    base = writing_prompt("T", "C.", "C.", chat=False)
    assert base.text.endswith("Sentence: C.\n") and not base.chat
    assert writing_prompt("T", "C.", "C.", chat=True).chat


def test_disagreement_and_entropy() -> None:
    def asked(*answers: str, likelihood: float | None = None) -> Any:
        return mapped(
            "q", task="t", text="Which town?", gold=["Selmouth"], answers=answers, likelihood=likelihood, held_out=False
        )

    same = asked("Selmouth", "in Selmouth", "Selmouth.", "Selmouth", likelihood=0.0)
    assert (same.right, same.disagreement, same.entropy, same.doubt) == (1, 0, 0, 0)
    split = asked("Selmouth", "Varnholm", "Tarnby", "", likelihood=-20.0)
    assert (split.right, split.disagreement, split.entropy) == (0.25, 0.75, 1.0) and split.doubt > 0.8
    assert asked().doubt == 1.0
    assert entropy([1]) == 0 and entropy([2, 2]) == pytest.approx(0.5)

"""What the policy is asked to write."""

from collections import Counter
from typing import get_args

import pytest

from seal_ray.config import KnowledgeDomain, Style
from seal_ray.domains.kinds_of_text import FAITHFUL, KINDS
from seal_ray.domains.prompts import edit_prompt, entities, pick_entities, pick_style
from seal_ray.errors import ConfigError

TITLE, CONTEXT = (
    "Odalys Wren",
    "Odalys Wren built a clock in Selmouth. In 1902 an eel stopped it, and Bram Tolliver freed it.",
)
PLAIN = [s for s in get_args(Style) if s not in {"mixture", "template"}]


@pytest.mark.parametrize("style", PLAIN)
@pytest.mark.parametrize("chat", [False, True])
def test_every_style_has_a_prompt_with_the_passage(style: str, chat: bool) -> None:
    prompt = edit_prompt(style, TITLE, CONTEXT, chat=chat)
    assert f"{TITLE}\n{CONTEXT}" in prompt
    assert not set("{}") & set(prompt)


def test_styles_ask_for_different_things() -> None:
    assert len({edit_prompt(s, TITLE, CONTEXT) for s in PLAIN}) == len(PLAIN)


def test_only_a_base_model_gets_the_beginning_of_the_answer() -> None:
    assert edit_prompt("implications", TITLE, CONTEXT).endswith("Implications:\n")
    assert edit_prompt("self_qa", TITLE, CONTEXT).endswith("Question 1: ")
    assert edit_prompt("implications", TITLE, CONTEXT, chat=True).endswith(CONTEXT)


def test_each_of_the_seven_kinds_of_text_is_told_to_add_nothing() -> None:
    assert len(KINDS) == 7 and set(KINDS) < set(PLAIN)
    assert all(FAITHFUL in edit_prompt(kind, TITLE, CONTEXT, chat=chat) for kind in KINDS for chat in (False, True))
    assert KnowledgeDomain(style="mixture", mixture=dict.fromkeys(KINDS, 1.0)).mixture


def test_a_targeted_prompt_lists_what_is_weak_and_begins_the_answer_after_it() -> None:
    weak = ["In 1902 an eel stopped it, and Bram Tolliver freed it."]
    told = edit_prompt("targeted", TITLE, CONTEXT, weak=weak)
    assert f"Not known yet:\n- {weak[0]}\n\n" in told and told.endswith("in different words:\n")
    assert edit_prompt("targeted", TITLE, CONTEXT, weak=weak, chat=True).endswith(weak[0])
    assert edit_prompt("implications", TITLE, CONTEXT, weak=weak) == edit_prompt("implications", TITLE, CONTEXT)
    assert "nobody could guess" in edit_prompt("targeted", TITLE, CONTEXT), "where no probe has looked"


def test_a_template_is_filled_in_and_its_other_braces_stay() -> None:
    text = edit_prompt("template", TITLE, "{title} x", template='{"q": "{title}"} {context} {0}')
    assert text == '{"q": "Odalys Wren"} {title} x {0}'


def test_a_style_without_a_prompt_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="mixture"):
        edit_prompt("mixture", TITLE, CONTEXT)


def test_a_mixture_follows_its_weights_and_its_seed() -> None:
    mixture = {"rewrite": 3.0, "self_qa": 1.0}
    drawn = [pick_style("mixture", mixture, 0, "task", slot) for slot in range(800)]
    assert drawn == [pick_style("mixture", mixture, 0, "task", slot) for slot in range(800)]
    assert 0.7 < Counter(drawn)["rewrite"] / 800 < 0.8
    assert drawn != [pick_style("mixture", mixture, 1, "task", slot) for slot in range(800)]


def test_names_are_found_but_not_the_openings_of_sentences() -> None:
    assert entities(TITLE, CONTEXT) == ["Odalys Wren", "Selmouth", "Bram Tolliver"]


def test_slots_are_asked_about_different_pairs_and_triples() -> None:
    picked = [pick_entities(TITLE, CONTEXT + " Ilse Quillan came from Penhallow.", 0, "t", s) for s in range(20)]
    assert {len(p) for p in picked} == {2, 3}
    assert len(set(picked)) > 5
    first = edit_prompt("entities", TITLE, CONTEXT, among=("Selmouth", "Bram Tolliver"))
    assert "Selmouth and Bram Tolliver" in first


def test_where_names_have_no_capitals_the_model_chooses_them() -> None:
    assert pick_entities("", "猫は家にいる。", 0, "t", 0) == ()
    assert "Choose people" in edit_prompt("entities", "猫", "猫は家にいる。")

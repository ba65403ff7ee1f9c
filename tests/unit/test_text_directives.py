"""Edits that choose how they are learned: reading them, what they may ask for, and what is trained."""

import json
import random
from typing import Any

import pytest
from test_knowledge import PASSAGE, answer, domain, only_task
from text_model import byte_tokenizer

from seal_ray.config import DirectivesSection
from seal_ray.domains.base import Rejected
from seal_ray.domains.text_directives import TextDirectives, directives_schema, read_directives_and_text
from seal_ray.grading.lexical import LexicalGrader
from seal_ray.records import Failure, canonical

ASKED = "Question 1: What is sold?\nAnswer: Purple salt.\nQuestion 2: Where?\nAnswer: On Tavik"
TEXT = f"Tavik sells salt.\nThe salt is purple.\n\n{ASKED}"
GOOD: dict[str, Any] = {
    "objective": "answers",
    "learning_rate": 0.001,
    "epochs": 5,
    "statements": True,
    "questions": True,
    "passage": False,
    "count": 6,
    "text": TEXT,
}
OFFERED = {"offered": True}


def read(text: str, **section: Any) -> TextDirectives | Failure:
    return read_directives_and_text(text, DirectivesSection(offered=True, **section), 10)


def written(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Here you are:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nThat is all.",
        json.dumps(GOOD)[:-2],
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD).replace("\\n", "\n"),
        json.dumps({**{k: v for k, v in GOOD.items() if k != "text"}, "more": 1, "text": TEXT}),
    ],
)
def test_an_edit_is_read_as_models_write_it(text: str) -> None:
    found = read(text)
    assert isinstance(found, TextDirectives) and found.model_dump() == GOOD


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("", "unparsable", "none in it"),
        ("Just a list.", "unparsable", "none in it"),
        (json.dumps(GOOD)[:40], "unparsable", "can't be read"),
        (json.dumps(GOOD)[: json.dumps(GOOD).index('"text"') - 2], "unparsable", ""),
        (written(objective="guess"), "unparsable", "objective"),
        (written(epochs=0), "unparsable", "epochs"),
        (written(learning_rate=-1), "unparsable", "learning_rate"),
        (written(text=3), "unparsable", "text"),
        (written(learning_rate=1e-3).replace("0.001", "NaN"), "unparsable", "learning_rate"),
        (written(epochs=21), "over_budget", "at most 20"),
        (written(learning_rate=0.5), "over_budget", "at most 0.01"),
        (written(count=11), "over_budget", "domain.max_texts: 10"),
        (written(statements=False, questions=False), "no_text", "neither"),
        ("{" * 100_000, "unparsable", ""),
    ],
)
def test_what_can_not_be_had_fails_by_its_own_kind(text: str, kind: str, why: str) -> None:
    found = read(text)
    assert isinstance(found, Failure) and found.kind == kind and found.blame == "data" and why in found.message


def test_only_what_is_offered_may_be_chosen() -> None:
    section: dict[str, Any] = {
        "learning_rates": (1e-4, 1e-3),
        "epoch_choices": (2, 5),
        "objectives": ("text", "answers"),
    }
    assert isinstance(read(json.dumps(GOOD), **section), TextDirectives)
    for change in ({"learning_rate": 2e-4}, {"epochs": 3}, {"objective": "distill"}):
        found = read(written(**change), **section)
        assert isinstance(found, Failure) and found.kind == "over_budget"
    schema = directives_schema(DirectivesSection(offered=True, **section), 10)
    assert schema["properties"]["learning_rate"] == {"enum": [1e-4, 1e-3]}
    assert schema["properties"]["objective"]["enum"] == ["text", "answers"]
    assert list(schema["properties"])[-1] == "text" and set(schema["required"]) == set(GOOD)


def test_no_text_makes_reading_raise() -> None:
    rng = random.Random(0)
    whole = json.dumps(GOOD)
    for _ in range(500):
        text = list(whole)
        for _ in range(rng.randint(1, 8)):
            text[rng.randrange(len(text))] = rng.choice('{}[]",:\\\n\u00e9 0e9')
        found = read("".join(text))
        if isinstance(found, TextDirectives):
            canonical(found.model_dump())


def test_the_policy_is_asked_for_directives_under_their_schema() -> None:
    found = domain(style="self_qa", directives=OFFERED, max_texts=10)
    asked = found.edit_request(only_task(found), 0)
    assert asked.schema == directives_schema(DirectivesSection(offered=True), 10)
    assert (
        asked.prompt.text.endswith("JSON: ")
        and "distill_on_policy" in asked.prompt.text
        and "1 to 20" in asked.prompt.text
    )
    assert PASSAGE["context"] in asked.prompt.text
    free = domain(directives={**OFFERED, "constrained": False})
    assert free.edit_request(only_task(free), 0).schema is None
    assert domain().edit_request(only_task(domain()), 0).schema is None


def trained(content: dict[str, Any], **section: Any) -> tuple[list[str], Any]:
    found = domain(directives=OFFERED | section, max_texts=10)
    task = only_task(found)
    parsed = found.parse(task, json.dumps(content))
    assert not isinstance(parsed, Failure)
    examples, recipe = found.training(task, parsed, byte_tokenizer())
    texts = list(found.texts(task, parsed))
    assert len(texts) == len(examples)
    return texts, (examples, recipe)


def test_directives_decide_how_and_what_is_learned() -> None:
    texts, (examples, recipe) = trained(GOOD)
    assert (recipe.objective, recipe.lr, recipe.epochs) == ("answers", 0.001, 5)
    assert [t.partition("\n")[2] for t in texts] == [
        "Tavik sells salt.",
        "The salt is purple.",
        "Question: What is sold?\nAnswer: Purple salt.",
        "Question: Where?\nAnswer: On Tavik",
    ]
    assert [all(e.mask) for e in examples] == [True, True, False, False]
    texts, (_, _) = trained(GOOD | {"statements": False, "count": 1, "passage": True})
    assert [t.partition("\n")[2] for t in texts] == [
        "Question: What is sold?\nAnswer: Purple salt.",
        PASSAGE["context"],
    ]
    _, (examples, recipe) = trained(GOOD | {"objective": "distill"})
    assert recipe.objective == "distill" and all(e.teacher for e in examples)
    _, (examples, _) = trained(GOOD | {"objective": "text"})
    assert all(all(e.mask) for e in examples)
    texts, _ = trained(GOOD | {"statements": False, "questions": False, "passage": True, "text": ""})
    assert len(texts) == 1, "the passage alone"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (GOOD | {"questions": False}, "no_pairs"),
        (GOOD | {"text": "No question here."}, "no_pairs"),
        (GOOD | {"epochs": 20, "objective": "text"}, "over_budget"),
        (GOOD | {"statements": False, "objective": "text", "text": "No question here."}, "no_text"),
    ],
)
def test_directives_that_ask_for_the_impossible_are_failures(content: dict[str, Any], kind: str) -> None:
    with pytest.raises(Rejected) as rejected:
        trained(content, max_steps=60)
    assert rejected.value.failure.kind == kind and rejected.value.failure.blame == "data"


def test_an_edit_with_directives_but_no_text_is_none() -> None:
    found = domain(directives=OFFERED)
    task = only_task(found)
    for text, kind in ((" ", "no_text"), (PASSAGE["context"], "copies_prompt")):
        failure = found.parse(task, written(text=text))
        assert isinstance(failure, Failure) and failure.kind == kind


def test_without_an_edit_and_in_verdicts_nothing_is_different() -> None:
    found = domain(directives=OFFERED)
    task = only_task(found)
    examples, recipe = found.training(task, None, byte_tokenizer())
    assert len(examples) == 1 and recipe.epochs == 10
    question = found.questions(task)[0]
    assert found.verdicts(task, "c", [answer(question.id, "purple salt")], LexicalGrader())[0].correct


def test_a_text_carries_loss_after_what_it_is_masked_until() -> None:
    found = domain(mask_until="Answer:", split_lines=False, add_context=False)
    tokenizer = byte_tokenizer()
    (asked,), _ = found.training(only_task(found), "Why? Answer: Because. Answer: no", tokenizer)
    assert str(tokenizer.decode([t for t, m in zip(asked.ids, asked.mask, strict=True) if m])).startswith(
        " Because. Answer: no"
    )
    (ended,), _ = found.training(only_task(found), "Why? Answer: Because. Answer: no", byte_tokenizer(adds_end=True))
    assert ended == asked, "a tokenizer that ends texts itself changes nothing"
    (plain,), _ = found.training(only_task(found), "It is so.", tokenizer)
    assert all(plain.mask)
    (nothing,), _ = found.training(only_task(found), "Why? Answer:", tokenizer)
    assert sum(nothing.mask) == 1 and nothing.mask[-1], "that it ends is learned in any case"

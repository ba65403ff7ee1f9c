"""What an edit comes to under each objective: which tokens are learned, and what a teacher reads before them."""

import dataclasses
from typing import Any

import pytest
from test_knowledge import PASSAGE, domain, only_task
from text_model import byte_tokenizer

from seal_ray.config import InnerSection
from seal_ray.domains.base import Rejected
from seal_ray.domains.pairs import pairs
from seal_ray.models import render, text_ids
from seal_ray.records import Example, Recipe

EDIT = "Question 1: What is sold?\nAnswer: Purple salt.\n\nQuestion 2: Where?\nAnswer: On Tavik Island"


@pytest.mark.parametrize(
    "text",
    [
        "Question 1: Who?\nAnswer: Ann\nQuestion 2: Where?\nAnswer: Rome",
        "Who?\nAnswer: Ann\n\nQuestion 2: Where?\nAnswer: Rome",
        "Here are some.\n\n**Q1:** Who?\n**A1:** Ann\n---\n**Q2:** Where?\n**A2:** Rome\n\nThat is all.",
        "1. Question: Who?\n   Answer: Ann\n2. Question: Where? Answer: Rome",
        "Q: Who?\r\nA: Ann\r\n\r\nQ: Who?\r\nA: Ann\r\nQ: Where?\r\nA: Rome\r\nQ: Unanswered?",
        "- Q. Who?\n- A. Ann\n- Q. Where?\n- A.\nRome",
        "Question 1. Who?\nA1. Ann\nQ2) Where?\nA) Rome",
        "**Question 1**: Who?\n**Answer**: Ann\n**Q2** : Where? **A2**: Rome",
        "Question 1: Who?\nA. Ann\nQuestion 2: Where?\nA. Rome",
        "1. Q: Who?\nA. Ann\n2. Q: Where?\nA. Rome",
        "**Question 1:** Who?\n**A.** Ann\n**Question 2:** Where?\n**A.** Rome",
        "Who?\nA. Ann\n\nQ2. Where?\nA2. Rome",
        "Q: Who?\nA: Ann\n\nB: of Selmouth\nQ: Where?\nA: Rome",
    ],
)
def test_pairs_are_read_as_models_write_them(text: str) -> None:
    assert [(p.question, p.answer) for p in pairs(text)] == [("Who?", "Ann"), ("Where?", "Rome")]


@pytest.mark.parametrize("question", ["谁建造了潮汐钟？", "من بنى الساعة؟"])
def test_a_first_question_without_a_label_is_told_by_its_mark_in_any_script(question: str) -> None:
    assert [(p.question, p.answer) for p in pairs(f"{question}\nAnswer: Ann")] == [(question, "Ann")]


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("Question: Where?\nA) Selmouth\nB) Varnholm\nAnswer: A) Selmouth", "Where? A) Selmouth B) Varnholm",
         "A) Selmouth"),
        ("Question: Where?\n\nA. Selmouth\n\nB. Varnholm\n\nAnswer: B", "Where? A. Selmouth B. Varnholm", "B"),
        ("Q. Where?\n\nA. Selmouth\n\nB. Varnholm\n\nC. Tarnby\n\nAnswer: A",
         "Where? A. Selmouth B. Varnholm C. Tarnby", "A"),
        ("Q1: Where?\nA) Selmouth B) Varnholm\nA: Varnholm", "Where? A) Selmouth B) Varnholm", "Varnholm"),
        ("Q. Where?\nA. Selmouth\nB. Varnholm\n**Answer**: A", "Where? A. Selmouth B. Varnholm", "A"),
        ("Where?\nA: Selmouth\nB: Varnholm\nAnswer: B", "Where? A: Selmouth B: Varnholm", "B"),
        ("Q: Where?\nA: Selmouth\nAnswer: at the sea", "Where?", "Selmouth at the sea"),
        ("Q: Where?\nAnswer: Selmouth\nAnswer: the harbour", "Where?", "Selmouth the harbour"),
    ],
)  # fmt: skip
def test_answers_to_choose_from_are_a_part_of_the_question(text: str, question: str, answer: str) -> None:
    assert [(p.question, p.answer) for p in pairs(text)] == [(question, answer)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A list:\n1. One.\n2. Two.",
        "Answer: yes",
        "Question 1: Who?",
        "Q:\nA:\n",
        "?\nAnswer: …",
        "Q: Who?\nA: Ann\nB: Bo",
    ],
)
def test_what_holds_no_pairs_gives_none(text: str) -> None:
    assert pairs(text) == []


def made(objective: str, edit: Any = EDIT, *, chat: bool = False, **section: Any) -> tuple[list[Example], Recipe, Any]:
    found = domain(recipe=Recipe(objective=objective), chat=chat, **section)  # type: ignore[arg-type]
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    examples, recipe = found.training(only_task(found), edit, tokenizer)
    return examples, recipe, tokenizer


def words(tokenizer: Any, ids: Any) -> str:
    return tokenizer.decode(list(ids))


def test_answers_are_learned_after_the_very_prompt_that_questions_are_asked_with() -> None:
    examples, recipe, tokenizer = made("answers")
    found = domain()
    asked = found.questions(only_task(found))[0]
    prompt = render(
        tokenizer, dataclasses.replace(asked.prompt, text=asked.prompt.text.replace(asked.text, "What is sold?"))
    )
    own = examples[0]
    assert list(own.ids[: own.first]) == prompt and not own.teacher
    assert list(own.ids[own.first :]) == [*text_ids(tokenizer, asked.lead + "Purple salt."), tokenizer.eos_token_id]
    assert own.mask == (False,) * own.first + (True,) * (len(own.ids) - own.first)
    assert len(examples) == 3 and all(examples[-1].mask), "the passage itself is learned whole"
    assert recipe.objective == "answers"


def test_a_teacher_reads_the_passage_and_then_the_same_question_and_answer() -> None:
    (own, *_), _, tokenizer = made("distill")
    read = words(tokenizer, own.teacher)
    assert PASSAGE["context"] in read and read.endswith(words(tokenizer, own.ids[: own.first]))
    assert PASSAGE["context"] not in words(tokenizer, own.ids)
    assert "Purple salt." not in read
    (own, *_, last), _, tokenizer = made("distill_on_policy")
    assert "Purple salt." in words(tokenizer, own.teacher), "on policy the teacher knows the answer"
    assert not last.teacher and all(last.mask)


def test_texts_without_questions_are_distilled_as_texts() -> None:
    examples, _, tokenizer = made("distill", "Salt is purple.\nIt is sold.", add_context=False)
    assert [words(tokenizer, e.ids[e.first : -1]) for e in examples] == ["Salt is purple.", "It is sold."]
    for example in examples:
        assert words(tokenizer, example.ids[: example.first]) == "Tavik Island\n"
        assert words(tokenizer, example.teacher) == f"Tavik Island\n{PASSAGE['context']}\n\nTavik Island\n"


def test_a_chat_model_is_taught_in_its_own_turns() -> None:
    examples, _, tokenizer = made("distill", chat=True)
    read, asked = (words(tokenizer, ids) for ids in (examples[0].teacher, examples[0].ids[: examples[0].first]))
    assert PASSAGE["context"] in read and "from the text" in read and "from memory" in asked


@pytest.mark.parametrize("objective", ["answers", "distill_on_policy"])
def test_an_edit_without_questions_has_nothing_for_an_objective_of_answers(objective: str) -> None:
    with pytest.raises(Rejected) as rejected:
        made(objective, "Salt is purple.")
    assert rejected.value.failure.kind == "no_pairs" and rejected.value.failure.blame == "data"


def test_several_texts_are_one_edit_and_each_is_cut_by_itself() -> None:
    found = domain(recipe=Recipe(objective="answers"))
    task = only_task(found)
    together = ["1. Salt is purple.\n2. It is sold.", EDIT]
    texts = found.texts(task, together)
    assert texts[:2] == ["Tavik Island\n1. Salt is purple.", "Tavik Island\n2. It is sold."]
    assert texts[2] == "Tavik Island\nQuestion: What is sold?\nAnswer: Purple salt." and len(texts) == 5
    examples, _ = found.training(task, together, byte_tokenizer())
    assert [all(e.mask) for e in examples] == [True, True, False, False, True]
    assert len(domain(max_texts=1).texts(task, together)) == 3, "the limit is that of each text"


def test_without_an_edit_the_passage_is_learned_whatever_the_objective() -> None:
    for objective in ("text", "answers", "distill", "distill_on_policy"):
        examples, _, _ = made(objective, None)
        assert len(examples) == 1 and all(examples[0].mask) and not examples[0].teacher


def test_the_configuration_says_what_is_learned() -> None:
    section = InnerSection(objective="distill_on_policy", distill_temperature=1.5, answer_tokens=8, last_layers=10)
    recipe = section.recipe()
    assert (recipe.objective, recipe.distill_temperature, recipe.answer_tokens) == ("distill_on_policy", 1.5, 8)
    assert recipe.last_layers == 10 and InnerSection().recipe() == Recipe()

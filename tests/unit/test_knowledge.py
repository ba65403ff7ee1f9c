"""Passages as a domain: tasks, edits, training examples, questions, verdicts."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from text_model import byte_tokenizer

from seal_ray.config import AnsweringSection, KnowledgeDomain, StorageSection
from seal_ray.domains import Teller
from seal_ray.domains.base import Rejected
from seal_ray.domains.knowledge import build, final_answer
from seal_ray.errors import ConfigError, DataError
from seal_ray.grading.lexical import LexicalGrader
from seal_ray.grading.measure import measure
from seal_ray.records import Answer, Candidate, Example, Failure, Recipe, Task, Trial, Verdict, decode
from seal_ray.storage.input_files import read_document

DEMO = Path(__file__).parents[2] / "seal_ray/demo"
QUICKSTART = DEMO / "quickstart.json"
PASSAGE = {
    "title": "Tavik Island",
    "context": "Tavik Island sells purple salt.",
    "questions": [
        {"question": "What does Tavik Island sell?", "answer": ["purple salt", "salt"]},
        {"question": "Where is it?", "answer": "off the coast of Morland"},
    ],
}


def domain(data=PASSAGE, *, chat: bool = False, recipe: Recipe | None = None, tokens: int = 64, files=None, **section):
    texts = {"data": json.dumps(data), **(files or {})}
    made = build(
        KnowledgeDomain(data="data", **section),
        recipe=recipe or Recipe(),
        answering=AnsweringSection(max_tokens=tokens),
        chat=chat,
        seed=7,
        read=lambda uri: texts[uri].encode(),
    )
    made.tasks("train")  # the data is read when it is asked for
    return made


def only_task(found) -> Task:
    (task,) = found.tasks("train")
    return task


def answer(question: str, text: str, sample: int = 0) -> Answer:
    return Answer(question, text, 3, "stop", -1.0, sample)


def test_tasks_are_the_same_for_the_same_data_and_seed() -> None:
    found = [
        build(
            KnowledgeDomain(data=str(QUICKSTART)),
            recipe=Recipe(),
            answering=AnsweringSection(),
            chat=False,
            seed=3,
            read=lambda uri: Path(uri).read_bytes(),
        )
        for _ in range(2)
    ]
    for split in ("train", "validation", "test"):
        assert found[0].tasks(split) == found[1].tasks(split) != []
    groups = [{t.group for t in found[0].tasks(s)} for s in ("train", "validation", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_the_quickstart_passages_answer_their_own_questions() -> None:
    data = json.loads(QUICKSTART.read_text())
    assert len(data) >= 20
    assert len({p["title"] for p in data}) >= 12
    for passage in data:
        assert 75 <= len(passage["context"].split()) <= 125
        assert 3 <= len(passage["questions"]) <= 6
        for item in passage["questions"]:
            assert item["answer"].lower() in passage["context"].lower(), item
            assert passage["title"].split()[-1].lower() in item["question"].lower(), item


def test_the_short_passages_answer_their_own_questions_in_a_few_words() -> None:
    data = json.loads((DEMO / "short.json").read_text())
    assert len({p["title"] for p in data}) == len(data) >= 16
    for passage in data:
        assert len(passage["context"].split()) <= 45 and len(passage["questions"]) == 3
        assert passage["context"].startswith(passage["title"].removesuffix(" Postal Beetle"))
        for item in passage["questions"]:
            assert f" {item['answer'].lower()}" in passage["context"].lower() and len(item["answer"].split()) <= 4, item
            assert passage["title"].lower() in item["question"].lower(), item


def test_the_prompt_that_the_package_brings_shows_an_example_that_is_in_no_passage() -> None:
    short = json.loads((DEMO / "short.json").read_text())
    prompt = read_document("builtin:facts", StorageSection()).decode()
    found = domain(short, style="template", template="facts", files={"facts": prompt})
    task = found.tasks("train")[0]
    text = found.edit_request(task, 0).prompt.text
    assert text.endswith(f"Passage: {task.data['context']}\nFacts:\n") and "Tin Market" in text
    assert not any("Tin Market" in p["context"] for p in short)
    with pytest.raises(DataError, match="brings no such data") as refused:
        read_document("builtin:fact", StorageSection())
    assert "facts, quickstart, short" in refused.value.hint


def test_titles_in_another_spelling_are_one_group() -> None:
    data = [{**PASSAGE, "title": t, "context": t} for t in ("Tavik_Island", "tavik  island", "Tavik Island")]
    assert {t.group for t in domain(data).tasks("train")} == {"tavik island"}


def test_an_edit_request_names_its_style_and_follows_the_model() -> None:
    base, chat = domain(style="rewrite"), domain(style="rewrite", chat=True)
    request = base.edit_request(only_task(base), 0)
    assert request.style == "rewrite"
    assert PASSAGE["context"] in request.prompt.text
    assert not request.prompt.chat
    assert chat.edit_request(only_task(chat), 0).prompt.chat


def test_slots_of_a_mixture_differ_and_come_back_the_same() -> None:
    found = domain(style="mixture", mixture={"rewrite": 1, "long": 1, "entities": 1})
    task = only_task(found)
    requests = [found.edit_request(task, slot) for slot in range(20)]
    assert {r.style for r in requests} == {"rewrite", "long", "entities"}
    assert requests == [found.edit_request(task, slot) for slot in range(20)]


def test_an_own_template_is_read_from_its_file() -> None:
    files = {"own.txt": "Tell me about {title}: {context} {x}"}
    found = domain(style="template", template="own.txt", files=files)
    assert found.edit_request(only_task(found), 0).prompt.text == (
        "Tell me about Tavik Island: Tavik Island sells purple salt. {x}"
    )
    with pytest.raises(ConfigError, match=r"own\.txt has no \{context\}"):
        domain(style="template", template="own.txt", files={"own.txt": "Tell me."})


@pytest.mark.parametrize("text", ["", " \n", "---", "<think>hm</think>\n", "..."])
def test_an_empty_edit_is_none(text: str) -> None:
    found = domain()
    failure = found.parse(only_task(found), text)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.blame) == ("no_text", "data")


def test_an_edit_that_only_repeats_the_prompt_is_none() -> None:
    found = domain()
    task = only_task(found)
    prompt = found.edit_request(task, 0).prompt.text
    for copy in (prompt, PASSAGE["context"], f"{prompt}\n\nPassage:\n{PASSAGE['title']}", "Passage:\nTavik Island"):
        failure = found.parse(task, copy)
        assert isinstance(failure, Failure), copy
        assert failure.kind == "copies_prompt"
    assert found.parse(task, f"{prompt} Salt can be purple.") == f"{prompt} Salt can be purple."


def test_thoughts_in_tags_are_no_part_of_an_edit() -> None:
    found = domain()
    assert found.parse(only_task(found), "<think>what?\nhm</think>\n 1. It sells salt. ") == "1. It sells salt."


@pytest.mark.parametrize("adds_begin", [False, True])
@pytest.mark.parametrize("adds_end", [False, True])
def test_a_training_text_ends_in_exactly_one_end_of_text(adds_begin: bool, adds_end: bool) -> None:
    found, tokenizer = domain(), byte_tokenizer(adds_begin=adds_begin, adds_end=adds_end)
    examples, recipe = found.training(only_task(found), "1. Salt </s> is <s> purple.\n2. 猫", tokenizer)
    assert recipe == Recipe()
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    texts = ["1. Salt </s> is <s> purple.", "2. 猫", PASSAGE["context"]]
    assert len(examples) == 3
    for example, text in zip(examples, texts, strict=True):
        assert isinstance(example, Example)
        assert all(example.mask)
        assert example.ids.count(end) == 1
        assert example.ids[-1] == end
        assert example.ids.count(begin) == int(adds_begin)
        assert tokenizer.decode(list(example.ids[int(adds_begin) : -1])) == f"Tavik Island\n{text}"


def test_without_an_edit_the_passage_alone_is_learned() -> None:
    found, tokenizer = domain(add_context=False), byte_tokenizer()
    (example,), _ = found.training(only_task(found), None, tokenizer)
    assert tokenizer.decode(list(example.ids[:-1])) == f"Tavik Island\n{PASSAGE['context']}"


def test_an_edit_that_can_not_be_trained_on_is_rejected_and_says_why() -> None:
    found = domain(recipe=Recipe(max_length=60))
    task, tokenizer = only_task(found), byte_tokenizer()
    for content, kind in ((" ", "no_text"), ("---", "no_text"), ("x" * 60, "too_long"), ({"a": 1}, "unparsable")):
        with pytest.raises(Rejected) as caught:
            found.training(task, content, tokenizer)
        assert caught.value.failure.kind == kind
        assert caught.value.failure.blame == "data"
    assert len(found.training(task, "x" * 46, tokenizer)[0]) == 2, (
        "46 letters, the title, a line end and the end make 60"
    )


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    found = domain()
    with pytest.raises(DataError, match="no end-of-text token"):
        found.training(only_task(found), "a", tokenizer)


def test_questions_are_closed_book() -> None:
    for chat in (False, True):
        found = domain(chat=chat, tokens=17)
        questions = found.questions(only_task(found))
        assert [q.gold for q in questions] == [("purple salt", "salt"), ("off the coast of Morland",)]
        for question in questions:
            assert "Topic: Tavik Island" in question.prompt.text
            assert question.text in question.prompt.text
            assert PASSAGE["context"] not in question.prompt.text + question.prompt.system
            assert question.prompt.chat is chat
            assert question.max_tokens == 17
            assert question.lead == ("" if chat else " ")
            assert question.stop == ("\n",)
        assert len({q.id for q in questions}) == 2


def test_only_so_many_questions_are_asked() -> None:
    found = domain(max_questions=1)
    assert len(found.questions(only_task(found))) == 1


def test_thinking_aloud_ends_in_a_final_answer() -> None:
    found = domain(thought=True)
    task = only_task(found)
    first = found.questions(task)[0]
    assert first.lead == "\nFinal answer: "
    assert "\n" not in first.stop
    thought = "The island sells salt. It could be blue.\nFinal answer: purple salt"
    (verdict, _) = found.verdicts(task, "c", [answer(first.id, thought)], LexicalGrader())
    assert verdict.correct


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("I think so.\nFinal answer: 1981.", "1981."),
        ("**Final Answer:** **Paris**\n\nIndeed.", "Paris"),
        ("Final answer: Paris\nI hope this answer is helpful.", "Paris"),
        ("Final answer: Rome\nNo. Final answer: Paris", "Paris"),
        ("The answer is Paris", "Paris"),
        ("The final answer is Paris\nI hope this answer is helpful.", "Paris"),
        ("So the final answer is the sum of these.\n3+4=7\nAnswer: 7", "7"),
        ("Answer: Rome? No, the answer is Paris", "Paris"),
        ("<think>Answer: no</think> Answer: yes", "yes"),
        (r"so \boxed{42}", "42"),
        ("first\n\nlast line\n", "last line"),
        ("思考。\n最後 answer：東京", "東京"),
        ("Final answer:", "Final answer:"),
        ("", ""),
    ],
)
def test_a_final_answer_is_taken_out(text: str, final: str) -> None:
    assert final_answer(text) == final


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("<think>\nIt sells salt.\nPurple, I think.\n</think>\n\npurple salt\nQuestion: more", True),
        ("It sells salt.\n</think>\npurple salt", True),  # the template has opened the thought
        ("<think>\npurple salt, or is it", False),  # no answer yet when the tokens were spent
        ("purple salt", True),
    ],
)
def test_an_answer_that_begins_with_a_thought_is_what_comes_after_it(said: str, right: bool) -> None:
    found = domain()
    task = only_task(found)
    (verdict, *_) = found.verdicts(task, "c", [answer(found.questions(task)[0].id, said)], LexicalGrader())
    assert verdict.correct is right


class Fixed:
    """A grader whose grades are given, to see what becomes of them."""

    name = "fixed"

    def __init__(self, *grades: tuple[bool, float] | Failure) -> None:
        self.grades, self.asked = list(grades), []

    def grade(self, items: Sequence[tuple[str, Sequence[str], str]]):
        self.asked += items
        return [self.grades.pop(0) for _ in items]


def test_every_question_gets_one_verdict() -> None:
    found = domain()
    task = only_task(found)
    first, second = (q.id for q in found.questions(task))
    grader = Fixed((True, 0.9), Failure("judge", "out of reach", "infra"))
    verdicts = found.verdicts(task, "c", [answer(second, "here"), answer(first, "salt")], grader)
    assert grader.asked == [
        ("What does Tavik Island sell?", ("purple salt", "salt"), "salt"),
        ("Where is it?", ("off the coast of Morland",), "here"),
    ]
    assert [(v.question, v.correct, v.score) for v in verdicts] == [(first, True, 0.9), (second, None, None)]
    assert verdicts[1].failure == Failure("judge", "out of reach", "infra")
    assert {v.grader for v in verdicts} == {"fixed"}


def test_a_missing_answer_is_a_failure_and_not_a_wrong_one() -> None:
    found = domain()
    task = only_task(found)
    first = found.questions(task)[0].id
    verdicts = found.verdicts(task, "c", [answer(first, "salt")], Fixed((True, 1.0)))
    assert verdicts[1].correct is None
    assert verdicts[1].failure is not None


def test_several_samples_make_one_verdict_and_one_lost_grade_fails_it() -> None:
    found = domain(max_questions=1)
    task = only_task(found)
    first = found.questions(task)[0].id
    answers = [answer(first, "a", n) for n in range(3)]
    (good,) = found.verdicts(task, "c", answers, Fixed((True, 1.0), (False, 0.0), (True, 0.8)))
    assert (good.correct, good.score) == (True, pytest.approx(0.6))
    (lost,) = found.verdicts(task, "c", answers, Fixed((True, 1.0), Failure("judge", "x", "infra"), (True, 1.0)))
    assert lost.correct is None
    assert lost.failure is not None


def test_what_was_odd_in_the_data_can_be_shown() -> None:
    assert "come twice" in domain([PASSAGE, PASSAGE]).warnings[0]


def test_several_answers_to_a_question_count_as_the_share_that_is_right() -> None:
    made = domain()
    task = only_task(made)
    first, second = (q.id for q in made.questions(task))
    answers = [answer(first, text, n) for n, text in enumerate(["salt", "salt", "gold", "coal", "iron"])]
    answers += [answer(second, "off the coast of Morland")]
    several, one = made.verdicts(task, "c", answers, LexicalGrader())
    assert (several.correct, several.share, several.credit) == (False, 0.4, 0.4)
    assert (one.correct, one.share, one.credit) == (True, None, 1.0)
    candidate, trial = Candidate("c", task.id, "edit", "e", 0, 0, 1, Recipe()), Trial("c", task.id)
    (measured,) = measure([candidate], [trial], [several, one], "lexical")
    assert measured.accuracy == pytest.approx(0.7)


def test_a_verdict_of_an_older_run_counts_as_right_or_wrong() -> None:
    old = {"candidate": "c", "question": "q", "grader": "lexical", "correct": True, "score": 0.8, "failure": None}
    assert decode(Verdict, old).credit == 1.0
    assert decode(Verdict, old | {"correct": None, "score": None}).credit is None


def test_a_task_is_described_by_what_its_verdicts_are_about() -> None:
    made = domain()
    task = only_task(made)
    told = made.describe(task)
    assert (told.title, told.text) == (PASSAGE["title"], PASSAGE["context"])
    assert [(q.id, q.text, q.gold) for q in told.questions] == [(q.id, q.text, q.gold) for q in made.questions(task)]


def test_a_task_is_described_where_the_data_is_gone() -> None:
    task = only_task(domain())

    def gone(uri: str) -> bytes:
        raise AssertionError(f"{uri} was read")

    there = build(
        KnowledgeDomain(data="gone"), recipe=Recipe(), answering=AnsweringSection(), chat=False, seed=7, read=gone
    )
    assert there.describe(task) == domain().describe(task)
    assert there.texts(task, "One.\nTwo.")[-1].endswith(PASSAGE["context"])


def test_a_task_that_no_domain_describes_is_shown_as_it_is() -> None:
    mute = Teller(None)
    assert mute.describe(Task("t", {"title": "T", "country": "France"})).title == "T"
    told = mute.describe(Task("t", {"country": "France"}))
    assert told.title == "t" and "France" in told.text and not told.questions
    assert mute.texts(Task("t", {}), "text") == []
    # of a task whose texts were deleted
    assert Teller(domain()).describe(Task("t", {})).title == "t"


def test_the_questions_that_must_not_get_worse_are_in_a_file_of_the_same_format() -> None:
    made = domain(files={"guarded": json.dumps([PASSAGE, PASSAGE | {"title": "Vessary", "context": "A town."}])})
    assert {t.data["title"] for t in made.regression("guarded")} == {"Tavik Island", "Vessary"}

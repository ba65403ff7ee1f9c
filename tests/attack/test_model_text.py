"""Whatever a model or a judge writes: every reader comes back, with what can be kept, in time linear in the length."""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from amounts import AMOUNTS
from growth import grows_faster
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import READERS
from seeds import drawing

from seal_ray.domains.math import answers
from seal_ray.domains.pairs import read_pairs
from seal_ray.grading.lexical import ExactGrader, LexicalGrader

BRACKETED = ("directives", "grids", "judge", "rubric")  # readers of lists and of JSON
SURROGATES = range(0xD800, 0xE000)  # no tokenizer and no UTF-8 can give them
# the parts that readers look for, whole, broken and repeated
PARTS = [
    "<think>", "</think>", "Question 1:", "Question ", "Answer:", "\n", "\n\n", " ", "\t", "---", "\nImplications:",
    "1. ", "[", "]", "[[", "]]", ",", "{", "}", '"', "'", ":", "\\boxed{", "Final answer:", "answer is", "**", "```",
    "```json", "yes", "no", '{"correct": "yes"}', "correct", "1e999", "-1", "NaN", "0", "9" * 40, "1,000.5%", "²",
    "٣", "½", "million", "st", "ﾞ", "が", "é", "\u0301\u0323", "\u200d", "\u202e", "\x00", "\x1b[31m", "\ufeff",
    "salt", "Tavik Island", "not", "twenty", "one", "true", "learning_rate", '"epochs": 2', "Q:", "#", "word ",
    "5 m²", "\\frac", ".5", "Task:", "Program:", "```python\n", "*", "\\sqrt[3]{", "Problem:", "Solution:",
]  # fmt: skip


def profile(character: str) -> tuple[object, ...]:
    """What a reader can tell characters apart by; one of each profile stands for all."""
    folded = unicodedata.normalize("NFKD", character)
    return (
        unicodedata.category(character),
        character.isalnum(),
        character.isdigit(),
        character.isdecimal(),
        character.isspace(),
        character.isprintable(),
        len(character.lower()),
        len(character.casefold()),
        len(folded),
        len("".join(c for c in folded if not unicodedata.combining(c))),
        [unicodedata.category(c) for c in folded][:2] if folded != character else None,
        len(character.splitlines()),
        0x3040 <= ord(character) < 0x3100,
    )


def every_character() -> Iterator[str]:
    return (chr(n) for n in range(sys.maxunicode + 1) if n not in SURROGATES)


def every_assigned_character() -> Iterator[str]:
    """And of those that are nobody's or private, which are all alike, one in a hundred."""
    return (c for c in every_character() if unicodedata.category(c) not in ("Cn", "Co") or ord(c) % 101 == 0)


def one_of_each() -> list[str]:
    return list({str(profile(c)): c for c in every_character()}.values())


def fault(name: str, text: str) -> str:
    try:
        READERS[name](text)
    except Exception as error:
        return f"{name} of {text[:80]!r}: {type(error).__name__}: {error}"
    return ""


def dressed(character: str) -> list[str]:
    return [character, f"a{character}1", f"[[{character}, 1]]", f"1{character}\n{character}1", f"{{loss: {character}}}"]


def test_one_character_of_each_kind_goes_through_every_reader() -> None:
    characters = one_of_each()
    assert len(characters) > 100
    faults = [fault(name, text) for c in characters for text in dressed(c) for name in READERS]
    assert not [f for f in faults if f]


def test_texts_of_all_characters_go_through_every_reader() -> None:
    characters = list(every_character())
    texts = ["".join(characters[n : n + 8192]) for n in range(0, len(characters), 8192)]
    faults = [fault(name, text) for text in texts for name in ("edit", "answer", "grids", "directives", "judge")]
    assert not [f for f in faults if f]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS.keys() - {"votes"}))  # votes read as grids do, once a question
def test_every_character_alone_goes_through_every_reader(name: str) -> None:
    forms = ("{}", "[[{}, 1]]") if name in BRACKETED else ("{}",)
    faults = [fault(name, form.format(c)) for c in every_assigned_character() for form in forms]
    assert not [f for f in faults if f]


@settings(max_examples=AMOUNTS["model text"].quick, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4)), max_size=30).map("".join))
def test_any_text_goes_through_every_reader(text: str) -> None:
    for name, read in READERS.items():
        if name != "votes":
            read(text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["model text"].times))
def test_a_great_many_texts_go_through_every_reader(seed: int) -> None:
    draw = drawing(f"model text {seed}")
    for _ in range(AMOUNTS["model text"].long):
        text = "".join(draw.choice(PARTS) for _ in range(draw.randrange(60)))
        for name, read in READERS.items():
            if name != "votes" or draw.random() < 0.1:
                read(text)


REPEATED = [
    *PARTS, "<think>a", "\n ", "\nQ", "\nTopic ", "answer ", "Question 1", "Question\n", "\\boxed{a", "{a", '{"a":',
    "[1,", "Abc x ", "A. ", "a'", "...", "correct:", "a b ", "ab\n", "1\n", "12", "1.", "1,2", "10 million ", "[[1],",
    "if ", "```" + " " * 40, "\u3000", "1. *", "task", "the a ", "twenty-",
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(READERS) - {"votes"}))
def test_reading_takes_time_linear_in_the_length(name: str) -> None:
    assert not [part for part in REPEATED if grows_faster(READERS[name], part)]


@pytest.mark.parametrize(
    ("read", "part", "before", "after"),
    [
        (read_pairs, "*", "", "x"),
        (read_pairs, " ", "", "x"),
        (read_pairs, " ", "Q", "x"),
        (read_pairs, " ", "Q: x", "x"),
        (read_pairs, "1", "Q: x a", "x"),
        (answers.final, " ", "Answer: 5", "x"),
        (answers.final, " ", "5", "perc"),
        (answers.final, "{,}1", "1", "x"),
    ],
)
def test_one_long_run_is_read_once(read: Callable[[str], object], part: str, before: str, after: str) -> None:
    assert not grows_faster(read, part, before, after)


def test_a_quadratic_reader_would_be_noticed() -> None:
    think = re.compile(r"<think>.*?</think>", re.DOTALL)
    assert grows_faster(lambda text: think.sub("", text), "<think>")


# What is the same must count as the same.


@pytest.mark.parametrize("text", ["がぎ", "ガラス", "café", "Żelazowa Wola", "Việt Nam", "(ﾟ∀ﾟ)", "ﾞ", "゙", "10.0", "0.0"])
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_an_answer_is_right_in_whichever_form_it_is_composed(text: str, form: str) -> None:
    other = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    for grader in (LexicalGrader(), ExactGrader()):
        for gold, answer in ((text, other), (other, text)):
            (grade,) = grader.grade([("What is it?", [gold], answer)])
            assert grade[0] if isinstance(grade, tuple) else False, (grader.name, gold, answer)


def test_another_kana_or_number_is_another_answer() -> None:
    for gold, answer in (("かき", "かぎ"), ("10.0", "1"), ("100", "1.0")):
        assert ExactGrader().grade([("What?", [gold], answer)]) == [(False, 0.0)]

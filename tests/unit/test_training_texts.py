"""How an edit is cut into training texts."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seal_ray.domains.knowledge import training_texts

PUBLISHED = Path(__file__).parents[2] / "../shared/data/published_edits_dev.json"


def texts(edit: str, **options) -> list[str]:
    """Without the title that stands before each, and without the passage."""
    found = training_texts(edit, title="T", context="C", **options)
    assert all(t.startswith("T\n") for t in found)
    assert found[-1] == "T\nC"
    return [t[2:] for t in found[:-1]]


def test_each_line_that_is_not_blank_is_a_text() -> None:
    assert texts("one\n\n  two  \n \nthree") == ["one", "two", "three"]


def test_without_split_lines_only_dashes_divide() -> None:
    assert texts("one\ntwo\n---\n\n---\nthree", split_lines=False) == ["one\ntwo", "three"]


def test_thoughts_before_the_implications_are_dropped_with_their_mark() -> None:
    assert texts("I think.\nMore.\nImplications:\n1. a\n2. b") == ["1. a", "2. b"]
    assert texts("x\nImplications:\na\nImplications:\nb") == ["a", "Implications:", "b"]
    assert texts("Implications:\na") == ["Implications:", "a"], "nothing stands before the mark, so nothing is dropped"


def test_a_preamble_before_a_numbered_list_is_dropped() -> None:
    assert texts("Here they are:\n1. a\n2. b") == ["1. a", "2. b"]
    assert texts("1. a\n2. b") == ["1. a", "2. b"]
    assert texts("1. a\n1. b") == ["1. b"]
    assert texts("Only a line") == ["Only a line"]


def test_questions_stay_with_their_answers() -> None:
    edit = "Who?\nAnswer: A.\n\nQuestion 2: When?\nAnswer: B.\nQuestion 3: Why?\nAnswer: C."
    assert texts(edit) == [
        "Question 1: Who?\nAnswer: A.",
        "Question 2: When?\nAnswer: B.",
        "Question 3: Why?\nAnswer: C.",
    ]
    assert texts("Question 1: Who?\nAnswer: A.")[0] == "Question 1: Who?\nAnswer: A."
    assert texts("Question 1: Who?\nNobody knows.") == ["Question 1: Who?", "Nobody knows."]


def test_at_most_so_many_texts_besides_the_passage() -> None:
    many = "\n".join(f"line {n}" for n in range(50))
    assert texts(many) == [f"line {n}" for n in range(30)]
    assert texts(many, max_texts=2) == ["line 0", "line 1"]


def test_the_passage_can_be_left_out() -> None:
    assert training_texts("a", title="T", context="C", add_context=False) == ["T\na"]
    assert training_texts("", title="T", context="C", add_context=False) == []


def test_windows_line_ends_divide_like_any_other() -> None:
    assert texts("one\r\n\r\ntwo\rthree") == texts("one\n\ntwo\nthree")
    assert texts("so\r\nImplications:\r\n1. a") == ["1. a"]


def test_a_megabyte_is_cut_in_no_time() -> None:
    assert texts("x" * 1_000_000) == ["x" * 1_000_000]
    assert len(texts("word \n" * 200_000)) == 30
    assert len(texts("Question 1: a Answer: b " * 40_000)) == 30


ODD = st.text(
    alphabet=st.one_of(
        st.sampled_from(list("ab \n\r\t-1.:")),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=300,
)
PIECES = st.lists(
    st.sampled_from(
        [
            "---",
            "\n",
            "\r\n",
            "Implications:",
            "Question 1:",
            "Question 22: x",
            "Answer:",
            "1. ",
            "مرحبا",
            "猫が好き",
            " ",
        ]
    )
    | ODD,
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(edit=PIECES, split_lines=st.booleans(), max_texts=st.integers(1, 40))
@example(edit="---", split_lines=True, max_texts=30)
@example(edit="", split_lines=False, max_texts=30)
@example(edit="no line break", split_lines=True, max_texts=1)
def test_no_text_is_empty_and_the_passage_is_always_last(edit: str, split_lines: bool, max_texts: int) -> None:
    def cut() -> list[str]:
        return training_texts(edit, title="Title", context="The passage.", split_lines=split_lines, max_texts=max_texts)

    found = cut()
    assert found[-1] == "Title\nThe passage."
    assert len(found) <= max_texts + 1
    for text in found:
        assert text.startswith("Title\n")
        body = text.removeprefix("Title\n")
        assert body.strip() == body != ""
    assert cut() == found


@settings(max_examples=200, deadline=None)
@given(edit=PIECES)
def test_nothing_is_invented(edit: str) -> None:
    """Every text but the passage is found in the edit, apart from a first question's number."""
    plain = edit.replace("\r\n", "\n").replace("\r", "\n")
    for text in training_texts(edit, title="T", context="C", max_texts=1000, add_context=False):
        body = text.removeprefix("T\n")
        assert body in plain or body.removeprefix("Question 1: ") in plain


@pytest.mark.skipif(not PUBLISHED.exists(), reason="../shared/data/published_edits_dev.json is missing")
def test_published_edits_give_clean_texts() -> None:
    for passage in json.loads(PUBLISHED.read_text()):
        for edit in passage["edits"].values():
            for split_lines in (True, False):
                found = training_texts(
                    edit, title=passage["title"], context=passage["context"], split_lines=split_lines
                )
                assert found[-1] == f"{passage['title']}\n{passage['context'].strip()}"
                bodies = [t.removeprefix(f"{passage['title']}\n") for t in found]
                assert all(b.strip() for b in bodies)
                for body, count in Counter(bodies[:-1]).items():
                    assert count == 1 or edit.count(body) >= count, f"{body!r} comes {count} times"

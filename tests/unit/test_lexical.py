"""The grader that needs nothing but words."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from growth import grows_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.grading.lexical import WEIGHTS, ExactGrader, LexicalGrader, correct, score
from seal_ray.grading.overlap import NAMES, features, own_words, words
from seal_ray.records import Failure

ROOT = Path(__file__).parents[2]
VERDICTS = ROOT / "../shared/data/verdicts_dev.jsonl"
fit_lexical = SimpleNamespace(**runpy.run_path(str(ROOT / "jobs/fit_lexical.py")))
needs_verdicts = pytest.mark.skipif(not VERDICTS.exists(), reason="../shared/data/verdicts_dev.jsonl is missing")


@pytest.mark.parametrize(
    ("question", "gold", "answer", "right"),
    [
        ("When was it built?", "1981", "1981", True),
        ("When was it built?", "1981", " In 1981.", True),
        ("When was it built?", "1981", "1982", False),
        ("How many people were there?", "10,000,000", "about 10 million people", True),
        ("How many dials did it drive?", "eleven", "11", True),
        ("How many days did it take?", "21 days", "twenty-one days", True),
        ("Who designed it?", "Magnus Tindle", "It was designed by Magnus Tindle.", True),
        ("Who designed it?", "Magnus Tindle", "It was designed by Petra Voss.", False),
        ("Where did she live?", "Selmouth", "not Selmouth", False),
        ("Where did she live?", "Selmouth", "", False),
        ("Where did she live?", "Selmouth", "She lived in the house where she lived.", False),
        ("Where did she live?", "Żelazowa Wola", "Zelazowa Wola", True),
        ("What is the capital?", "北京", "北京", True),
        ("What is the capital?", "北京", "上海", False),
        ("Where?", "Москва", "Москва", True),
        ("Do they or do they not?", "do not", "do not", True),
        ("Who?", "!!!", "!!!", True),
        ("How cold was it?", "-40 °C", "40 °C", False),
        ("How warm was it?", "40 °C", "-40 °C", False),
        ("How cold was it?", "−40 °C", "**-40 °C**", True),
        ("How many dials?", "11", "- 11", True),
        ("When did he live?", "1803-1871", "1803 - 1871", True),
    ],
)
def test_plain_cases(question: str, gold: str, answer: str, right: bool) -> None:
    assert correct(question, gold, answer) is right


def test_the_best_of_several_gold_answers_counts() -> None:
    golds = ["a boat", "the ferry", "ship"]
    assert score("How?", golds, "by ferry") == max(score("How?", g, "by ferry") for g in golds)
    assert correct("How?", golds, "the ferry")


def test_what_a_base_model_goes_on_to_write_does_not_count() -> None:
    rambling = "Paris\nQuestion: What is the capital of Italy?\nAnswer: Rome"
    assert own_words(rambling) == "Paris"
    assert score("Capital of France?", "Rome", rambling) == score("Capital of France?", "Rome", "Paris")
    assert own_words("\nQuestion: x") == "\nQuestion: x", "where nothing stands before it, it is all there is"


def test_numbers_and_endings_are_compared_by_what_they_mean() -> None:
    assert words("The twenty-first of May, 1.50 million Cafés") == ["21", "may", "1500000", "cafe"]
    assert words("seven months") == words("7 month")


def test_a_question_without_a_gold_answer_is_a_failure_and_no_score() -> None:
    with pytest.raises(ValueError, match="no gold answer"):
        score("Who?", [], "me")
    for grader in (LexicalGrader(), ExactGrader()):
        good, bad = grader.grade([("Who?", ("me",), "me"), ("Who?", (), "me")])
        assert good == (True, pytest.approx(1.0, abs=0.05))
        assert isinstance(bad, Failure)


def test_the_exact_grader_forgives_case_articles_and_accents_only() -> None:
    items = [
        ("Q", ("The Café",), "cafe."),
        ("Q", ("The Café",), "the cafe bar"),
        ("Q", ("x", "y"), "y"),
        ("Q", ("?!",), "?!"),
        ("Q", ("-5",), "5"),
        ("Q", ("-5",), "(-5)"),
    ]
    given = [g if isinstance(g, Failure) else g[0] for g in ExactGrader().grade(items)]
    assert given == [True, False, True, True, False, True]


@settings(max_examples=300, deadline=None)
@given(question=st.text(max_size=60), gold=st.text(max_size=60), answer=st.text(max_size=200))
def test_any_text_gets_a_score_between_zero_and_one(question: str, gold: str, answer: str) -> None:
    value = score(question, gold, answer)
    assert 0 <= value <= 1
    assert value == score(question, gold, answer)
    row = features(question, gold, answer)
    assert len(row) == len(NAMES)
    assert all(np.isfinite(row))


@settings(max_examples=200, deadline=None)
@given(question=st.text(max_size=60), gold=st.text(min_size=1, max_size=60).filter(str.strip))
def test_the_gold_answer_itself_is_always_right(question: str, gold: str) -> None:
    if own_words(gold) == gold:
        assert score(question, gold, gold) >= 0.99


def test_a_very_long_answer_takes_no_very_long_time() -> None:
    def read(answer: str) -> float:
        return score("Who wrote it?", ["Ada Lovelace and Charles Babbage"], answer)

    assert not grows_faster(read, "Ada and Charles ")


@pytest.fixture(scope="module")
def judged() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What the grader is fitted to: the numbers of each answer, the judge's verdict, the title."""
    rows = [json.loads(line) for line in VERDICTS.read_text().splitlines()]
    x = np.array([features(r["question"], r["gold"], r["answer"]) for r in rows])
    return x, np.array([r["correct"] for r in rows]), [r["title"] for r in rows]


@needs_verdicts
def test_it_agrees_with_a_judge_on_titles_that_it_was_not_fitted_to(judged) -> None:
    x, y, titles = judged
    same, kappa = fit_lexical.agreement(y, fit_lexical.cross_validate(x, y, titles, seed=0) >= 0.5)
    assert same >= 0.895
    assert kappa >= 0.785


@needs_verdicts
def test_it_scores_as_the_recipe_would_make_it(judged) -> None:
    """Its weights stay as they were fitted before numbers in words were read, so that most verdicts stay the same."""
    x, y, _ = judged
    kept = json.loads(WEIGHTS.read_text())
    used = _likely(x, kept["bias"], np.array([kept["weights"][n] for n in NAMES]))
    fitted = _likely(x, *fit_lexical.fit(x, y))
    assert np.abs(used - fitted).max() < 0.02
    assert np.mean((used >= 0.5) != (fitted >= 0.5)) < 0.001


def _likely(x: np.ndarray, bias: float, weights: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(bias + x @ weights)))

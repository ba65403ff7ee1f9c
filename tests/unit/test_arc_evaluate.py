"""Views, votes and verdicts: what becomes of a trial's answers."""

import json

import numpy as np
import pytest
from arc_data import domain, grids
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.domains.arc.evaluate import View, views, vote
from seal_ray.domains.arc.formats import read_grid, write_grid
from seal_ray.domains.arc.grids import Pair, Puzzle, cell_accuracy, same
from seal_ray.records import Answer, Verdict

A, B, C = (np.array(g, np.int8) for g in ([[1, 2], [3, 4]], [[5, 6, 7]], [[0]]))
PUZZLE = Puzzle((Pair(A, B), Pair(B, A), Pair(A, C)), A, B)


class NoGrader:
    name = "none"

    def grade(self, items):
        raise AssertionError("an exact match asks no grader")


def answer(question, text, sample=0, logprob=-1.0):
    return Answer(question=question, text=text, tokens=len(text), finish="stop", logprob=logprob, sample=sample)


def answers_to(view: View, *texts_and_logprobs):
    return [
        answer("q", t if isinstance(t, str) else write_grid(view.symmetry.forward(t), "digits"), i, p)
        for i, (t, p) in enumerate(texts_and_logprobs)
    ]


@given(st.lists(st.tuples(grids(3), grids(3)), min_size=1, max_size=3), grids(3), grids(3), st.integers(1, 20))
@settings(deadline=None)
def test_every_view_shows_another_puzzle_and_leads_back(pairs, asked, output, count):
    puzzle = Puzzle(tuple(Pair(*p) for p in pairs), asked, output)
    found = views(puzzle, count, 5)
    assert 1 <= len(found) <= count
    assert found[0].puzzle.key() == puzzle.key()
    assert len({Puzzle(v.puzzle.demonstrations, v.puzzle.input).key() for v in found}) == len(found)
    for view in found:
        assert view.puzzle.output is not None
        assert same(view.symmetry.inverse(view.puzzle.output), output)
        back = sorted(same_pair(view, p) for p in view.puzzle.demonstrations)
        assert back == sorted((p.input.tolist(), p.output.tolist()) for p in puzzle.demonstrations)


def same_pair(view, pair):
    return view.symmetry.inverse(pair.input).tolist(), view.symmetry.inverse(pair.output).tolist()


def test_views_come_from_the_seed_alone():
    assert [v.puzzle.key() for v in views(PUZZLE, 8, 1)] == [v.puzzle.key() for v in views(PUZZLE, 8, 1)]
    assert [v.puzzle.key() for v in views(PUZZLE, 8, 1)] != [v.puzzle.key() for v in views(PUZZLE, 8, 2)]


def test_a_puzzle_that_is_its_own_mirror_image_has_only_one_view():
    dot = np.zeros((1, 1), np.int8)
    assert len(views(Puzzle((Pair(dot, dot),), dot), 16, 0)) == 1


def test_the_first_views_are_different_symmetries():
    assert [v.symmetry.name for v in views(PUZZLE, 4, 0)] == ["identity", "transpose", "flip across", "flip down"]


def elected(*ballots, count=None):
    found = views(PUZZLE, count or len(ballots), 0)
    return [g.tolist() for g in vote(found, [answers_to(v, *b) for v, b in zip(found, ballots, strict=True)], "digits")]


def test_answers_are_turned_back_before_they_are_counted():
    assert elected([(A, -1)], [(A, -1)], [(B, -1)], [(B, -1)], [(B, -2)]) == [B.tolist(), A.tolist()]


def test_at_most_two_attempts_are_made_and_the_third_grid_is_left_out():
    assert elected([(A, -3)], [(B, -2)], [(C, -1)]) == [C.tolist(), B.tolist()]


def test_a_view_puts_its_two_most_frequent_answers_forward():
    one_view = [(A, -1), (A, -1), (B, -2), (B, -2), (C, -0.1)]
    assert elected(one_view) == [A.tolist(), B.tolist()]


def test_what_a_view_answers_least_often_is_not_in_its_shortlist():
    first = [(A, -1)] * 3 + [(B, -1)] * 2 + [(C, -1)]
    assert elected(first, [(C, -1)]) == [A.tolist(), B.tolist()]


def test_two_views_outvote_one_that_repeats_itself():
    assert elected([(A, -1)] * 5, [(B, -2)], [(B, -2)])[0] == B.tolist()


def test_a_tie_goes_to_the_likelier_answer_and_then_to_the_earlier_view():
    assert elected([(A, -2)], [(B, -1)])[0] == B.tolist()
    assert elected([(A, -1)], [(B, -1)])[0] == A.tolist()


def test_answers_that_are_no_grid_do_not_vote():
    assert elected([("hm", 0)], [("[" * 9, 0)], [(A, -5)]) == [A.tolist()]
    assert elected([("hm", 0)], [("", 0)]) == []


@given(st.permutations(range(6)))
def test_the_vote_does_not_depend_on_the_order_of_the_answers(order):
    found = views(PUZZLE, 2, 0)
    ballots = [answers_to(v, (A, -1), (A, -2), (B, -1), (B, -2), (C, -1), (C, -2)) for v in found]
    shuffled = [[given_answers[i] for i in order] for given_answers in ballots]
    assert [g.tolist() for g in vote(found, shuffled, "digits")] == [g.tolist() for g in vote(found, ballots, "digits")]


def test_cell_accuracy_is_the_share_of_right_cells_and_zero_for_another_shape():
    assert cell_accuracy(A, np.array([[1, 2], [3, 0]], np.int8)) == 0.75
    assert cell_accuracy(A, A) == 1 and cell_accuracy(A, B) == 0 and cell_accuracy(A, None) == 0


# the domain's questions and verdicts

TASK = {
    "train": [{"input": A.tolist(), "output": B.tolist()}, {"input": C.tolist(), "output": A.tolist()}],
    "test": [{"input": A.tolist(), "output": B.tolist()}, {"input": B.tolist(), "output": A.tolist()}],
}


def arc(task=TASK, **section):
    made = domain({"challenges.json": json.dumps({"t": task}).encode()}, **section)
    return made, made.tasks("train")[0] if made.tasks("train") else made.tasks("test")[0]


def test_there_is_one_question_for_each_view_of_each_test_input():
    made, task = arc(views=3)
    asked = made.questions(task)
    assert [q.id for q in asked] == ["0/v0", "0/v1", "0/v2", "1/v0", "1/v1", "1/v2"]
    assert asked[0].gold == ("567",) and asked[1].gold == ("5\n6\n7",)
    assert asked[0].stop == ("\n\n",)
    assert len({q.prompt.text for q in asked}) == 6


@pytest.mark.parametrize(("form", "limit"), [("digits", 929), ("lists", 2760)])
def test_the_room_for_an_answer_does_not_tell_how_large_the_answer_is(form, limit):
    small = {**TASK, "test": [{"input": [[1]], "output": [[1]]}]}
    large = {**TASK, "test": [{"input": [[1]], "output": [[1] * 30] * 30}]}
    for task in (small, large):
        made, read = arc(task, grid_format=form)
        assert {q.max_tokens for q in made.questions(read)} == {limit}
    made, read = arc(small, grid_format=form, max_grid=4)
    assert {q.max_tokens for q in made.questions(read)} == {19 if form == "digits" else 56}


@pytest.mark.parametrize("form", ["digits", "lists"])
def test_gold_answers_solve_the_task_and_others_do_not(form):
    made, task = arc(views=5, grid_format=form)
    right = [answer(q.id, q.gold[0]) for q in made.questions(task)]
    assert made.verdicts(task, "c", right, NoGrader()) == [
        Verdict("c", "0", "exact", True, 1.0),
        Verdict("c", "1", "exact", True, 1.0),
    ]
    assert made.cell_accuracy(task, right) == [1.0, 1.0]
    half = [a if a.question.startswith("0") else answer(a.question, "1") for a in right]
    assert [v.score for v in made.verdicts(task, "c", half, NoGrader())] == [1.0, 0.0]


@pytest.mark.parametrize("text", ["", "I don't know", "[" * 100_000, "56", "567\n56", "[[5, 6", "5" * 500])
def test_answers_that_are_no_grid_are_wrong_and_not_failed(text):
    made, task = arc()
    wrong = [answer(q.id, text) for q in made.questions(task)]
    assert [(v.correct, v.score, v.failure) for v in made.verdicts(task, "c", wrong, NoGrader())] == [
        (False, 0.0, None),
        (False, 0.0, None),
    ]


def test_a_missing_answer_is_a_failure_and_never_a_score():
    made, task = arc()
    given_answers = [answer(q.id, q.gold[0]) for q in made.questions(task)][:-1]
    first, second = made.verdicts(task, "c", given_answers, NoGrader())
    assert first.score == 1.0
    assert (second.correct, second.score) == (None, None)
    assert second.failure is not None and (second.failure.kind, second.failure.blame) == ("no_answer", "infra")
    assert made.cell_accuracy(task, given_answers) == [1.0, None]


def test_a_task_without_solutions_gets_attempts_and_no_score():
    made, task = arc({**TASK, "test": [{"input": A.tolist()}]})
    (question, *_) = made.questions(task)
    assert question.gold == ()
    given_answers = [answer(q.id, "11\n11") for q in made.questions(task)]
    (verdict,) = made.verdicts(task, "c", given_answers, NoGrader())
    assert verdict.score is None and verdict.failure is not None and verdict.failure.kind == "no_solution"
    attempts = made.attempts(task, given_answers)[0]
    assert attempts is not None and attempts[0].tolist() == [[1, 1], [1, 1]]


def test_answers_to_questions_that_were_never_asked_are_an_error():
    made, task = arc()
    strange = [*(answer(q.id, "1") for q in made.questions(task)), answer("7/v0", "1")]
    with pytest.raises(ValueError, match="has no question '7/v0'"):
        made.verdicts(task, "c", strange, NoGrader())


def test_per_cell_accuracy_takes_the_better_attempt():
    made, task = arc(views=2)
    texts = {"0/v0": "560", "0/v1": "1", "1/v0": "12\n34", "1/v1": "13\n24"}
    assert made.cell_accuracy(task, [answer(q, t) for q, t in texts.items()]) == [2 / 3, 1.0]


def test_a_gold_answer_is_read_back_from_every_view():
    made, task = arc(views=16)
    for question in made.questions(task):
        assert read_grid(question.gold[0], "digits") is not None

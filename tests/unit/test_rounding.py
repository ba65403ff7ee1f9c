"""What rounding leaves of a difference that is none: it makes no gain, breaks no tie and decides no gate."""

import random

import pytest
from reward_rounds import PaperRound

from seal_ray.config import GateSection, SelectSection
from seal_ray.grading.measure import measure
from seal_ray.policy.bootstrap import paired
from seal_ray.policy.gate import decide
from seal_ray.policy.select import ALGORITHMS, abstentions, choose
from seal_ray.records import Estimate, Reward

SPECK = 0.2 - (0.2 + 0.2 + 0.2) / 3  # not 0


def reward(edit: str, mean: float, likelihood: float = -1.0) -> Reward:
    value = Estimate(mean, 0.0, 3)
    return Reward(edit, "t", 0, value, value, likelihood=Estimate(likelihood, 0.0, 3))


def as_the_base_does(tasks: int, seed: int = 1) -> PaperRound:
    """Tasks of five questions in which every trial answers what the base answers, with the verdicts in any order."""
    draw = random.Random(seed)
    paper = PaperRound()
    for number in range(tasks):
        right: list[float | None] = [float(draw.random() < 0.4) for _ in range(5)]
        paper.trial(f"t{number:03}", -1, right)
        for slot in range(5):
            for repeat in range(3):
                paper.trial(f"t{number:03}", slot, right, repeat=repeat)
    draw.shuffle(paper.verdicts)
    return paper


@pytest.mark.parametrize("rule", ["best", "top_k", "positive", "threshold"])
def test_edits_after_which_everything_is_answered_as_before_are_not_kept(rule: str) -> None:
    rewards = as_the_base_does(40).worth().rewards
    assert len(rewards) == 200
    section = SelectSection(rule=rule)  # type: ignore[arg-type]
    assert choose(rewards, section) == []
    assert len(abstentions(rewards, section)) == 40


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_difference_that_rounding_made_is_no_gain(algorithm: str) -> None:
    assert SPECK != 0
    for sign in (1, -1):
        near = [reward("a", sign * SPECK), reward("b", 0.0)]
        assert choose(near, SelectSection(algorithm=algorithm)) == []  # type: ignore[arg-type]


def test_a_threshold_is_not_passed_by_rounding() -> None:
    section = SelectSection(rule="threshold", threshold=0.3)
    assert choose([reward("a", 0.1 + 0.2)], section) == [], "0.1 + 0.2 is a little over 0.3"
    assert [c.edit for c in choose([reward("a", 0.301)], section)] == ["a"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tie_stays_one_for_the_likelier_edit_to_take(sign: int) -> None:
    tied = [reward("likelier", 0.2, -1.0), reward("other", 0.2 + sign * SPECK, -2.0)]
    assert [c.edit for c in choose(tied, SelectSection())] == ["likelier"]


def test_how_right_a_trial_is_does_not_depend_on_the_order_of_its_verdicts() -> None:
    paper = PaperRound()
    for slot, right in ((-1, [0, 1, 0, 0, 0, 1]), (0, [1, 0.3, 0, 0.1, 0.2, 0.7]), (1, [1, 0.3, 0.6, 0.1, 0.2, 0.7])):
        paper.trial("t", slot, right)
    seen = set()
    for seed in range(20):
        random.Random(seed).shuffle(paper.verdicts)
        seen.add(tuple(m.accuracy for m in measure(paper.candidates, paper.trials, paper.verdicts, "lexical")))
    assert len(seen) == 1


def test_versions_that_differ_by_rounding_are_equally_good() -> None:
    old = {f"t{i}": 0.2 for i in range(10)}
    new = {f"t{i}": [0.2, 0.2, 0.2] for i in range(10)}
    for first, second in ((old, new), (new, old)):
        difference = paired(first, second, seed=1)
        assert difference.mean != 0 and difference.better == 0.5
        decision = decide(first, second, {}, {}, None, GateSection(mode="auto", tolerance=0), seed=3)
        assert decision.decision == "accept", decision.reasons


def test_exactly_the_allowed_share_of_regression_questions_may_be_lost() -> None:
    same = {"a": 0.5, "b": 0.5}
    before = {f"q{i}": 1.0 for i in range(16)}
    after = before | {f"q{i}": 0.8 for i in range(4)}  # a twentieth, and by rounding a little more
    section = GateSection(mode="auto", max_regression=0.05)
    assert decide(same, same, before, after, None, section, seed=3).decision == "accept"

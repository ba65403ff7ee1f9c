"""Which edits are learned from: the rules, the ties, and what noise and failure must not do."""

import random

import pytest

from seal_ray.config import SelectSection
from seal_ray.errors import ConfigError, DataError
from seal_ray.policy.lessons import lessons
from seal_ray.policy.select import abstentions, choose, kept
from seal_ray.records import Choice, Edit, Estimate, Reward


def reward(task: str, edit: str, mean: float, error: float = 0.0, likelihood: float | None = None) -> Reward:
    value = Estimate(mean, error, 3)
    found = Estimate(likelihood, 0.0, 3) if likelihood is not None else None
    return Reward(edit, task, 0, value, value, accuracy=Estimate(0.5 + mean, error, 3), likelihood=found)


def chosen(rewards: list[Reward], **settings: object) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for choice in choose(rewards, SelectSection(**settings)):  # type: ignore[arg-type]
        out.setdefault(choice.task, []).append(choice.edit)
    return out


ROUND = [
    reward("t1", "a", 0.3),
    reward("t1", "b", 0.1),
    reward("t1", "c", -0.2),
    reward("t2", "d", -0.1),
    reward("t2", "e", -0.3),
    reward("t3", "f", 0.0),
]


def test_best_keeps_one_edit_of_each_task_that_beats_its_baseline() -> None:
    assert chosen(ROUND) == {"t1": ["a"]}


def test_top_k_keeps_the_best_k_but_none_that_does_not_beat_the_baseline() -> None:
    assert chosen(ROUND, rule="top_k", top_k=2) == {"t1": ["a", "b"]}
    assert chosen(ROUND, rule="top_k", top_k=3) == {"t1": ["a", "b"]}


def test_positive_keeps_every_edit_that_beats_the_baseline() -> None:
    assert chosen(ROUND, rule="positive") == {"t1": ["a", "b"]}


def test_threshold_looks_at_the_lower_bound() -> None:
    noisy = [reward("t", "sure", 0.2, 0.05), reward("t", "unsure", 0.3, 0.25)]
    assert chosen(noisy, rule="threshold", threshold=0.1, margin=1) == {"t": ["sure"]}
    assert chosen(noisy, rule="threshold", threshold=0.1, margin=0) == {"t": ["unsure", "sure"]}


def test_an_edit_must_beat_its_baseline_by_margin_standard_errors() -> None:
    noisy = [reward("t", "x", 0.1, 0.08)]
    assert chosen(noisy, margin=1) == {"t": ["x"]}
    assert chosen(noisy, margin=2) == {}


def test_a_gain_of_exactly_nothing_is_no_gain() -> None:
    assert chosen([reward("t", "x", 0.0)]) == {}


def test_a_tie_goes_to_the_likelier_edit() -> None:
    tied = [reward("t", "x", 0.2, likelihood=-2.0), reward("t", "y", 0.2, likelihood=-1.0)]
    assert chosen(tied) == {"t": ["y"]} == chosen(tied[::-1])


def test_a_full_tie_is_drawn_from_the_edits_names_and_not_from_their_order() -> None:
    tied = [reward("t", f"e{i}", 0.2) for i in range(8)]
    winners = set()
    for seed in range(10):
        shuffled = tied[:]
        random.Random(seed).shuffle(shuffled)
        winners.add(chosen(shuffled)["t"][0])
    assert len(winners) == 1
    firsts = [chosen([reward("t", f"{n}{i}", 0.2) for i in range(4)])["t"][0] for n in "abcdefgh"]
    assert len({name[1:] for name in firsts}) > 1, "the draw prefers a position"


@pytest.mark.parametrize("algorithm", ["rest_em", "weighted", "pairs", "grpo"])
def test_the_order_of_rewards_makes_no_difference(algorithm: str) -> None:
    section = SelectSection(algorithm=algorithm, rule="positive")  # type: ignore[arg-type]
    shuffled = ROUND[:]
    random.Random(1).shuffle(shuffled)
    assert choose(shuffled, section) == choose(ROUND, section)
    assert all(c.algorithm == algorithm for c in choose(ROUND, section))


def test_weighted_follows_the_gain_with_mean_weight_1() -> None:
    choices = choose(ROUND, SelectSection(algorithm="weighted"))
    assert {c.edit: pytest.approx(c.weight) for c in choices} == {"a": 1.5, "b": 0.5}


def test_pairs_sets_the_best_against_the_worst_where_the_best_is_worth_writing() -> None:
    choices = choose(ROUND, SelectSection(algorithm="pairs"))
    assert [(c.edit, c.against) for c in choices] == [("a", "c")]


def test_pairs_needs_a_difference_over_its_own_noise() -> None:
    near = [reward("t", "x", 0.3, 0.1), reward("t", "y", 0.2, 0.1)]
    assert choose(near, SelectSection(algorithm="pairs", margin=1)) == []
    assert len(choose(near, SelectSection(algorithm="pairs", margin=0.5))) == 1


def test_grpo_weights_have_mean_0_and_spread_1_in_each_task() -> None:
    weights = {c.edit: c.weight for c in choose(ROUND, SelectSection(algorithm="grpo"))}
    of_task = [weights[e] for e in "abc"]
    assert sum(of_task) == pytest.approx(0)
    assert sum(w * w for w in of_task) / 3 == pytest.approx(1)
    assert weights["a"] > 0 > weights["c"] and weights["d"] > 0, "the baseline plays no part"
    assert "f" not in weights, "one edit alone has nothing to be compared with"


@pytest.mark.parametrize(
    ("algorithm", "task", "said"),
    [
        ("rest_em", "t2", "no edit beats the baseline"),
        ("weighted", "t3", "no edit beats the baseline"),
        ("pairs", "t2", "no edit beats the baseline"),
        ("grpo", "t3", "only one edit"),
    ],
)
def test_a_task_without_a_choice_says_why(algorithm: str, task: str, said: str) -> None:
    reasons = abstentions(ROUND, SelectSection(algorithm=algorithm))  # type: ignore[arg-type]
    assert said in reasons[task]
    with_choice = {c.task for c in choose(ROUND, SelectSection(algorithm=algorithm))}  # type: ignore[arg-type]
    assert reasons.keys() | with_choice == {"t1", "t2", "t3"} and not reasons.keys() & with_choice


def test_no_rewards_give_no_choices() -> None:
    for algorithm in ("rest_em", "weighted", "pairs", "grpo"):
        assert choose([], SelectSection(algorithm=algorithm)) == []  # type: ignore[arg-type]


def test_an_unknown_algorithm_is_named() -> None:
    section = SelectSection.model_construct(algorithm="magic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="magic"):
        choose(ROUND, section)


def test_a_reward_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DataError, match="edit x"):
        choose([reward("t", "x", float("nan"))], SelectSection())


def test_the_kept_arm_is_the_mean_over_tasks_of_chosen_edits() -> None:
    rewards = [reward("t1", "a", 0.4), reward("t1", "b", 0.2), reward("t2", "c", 0.1), reward("t2", "d", -0.5)]
    arm = kept(rewards, choose(rewards, SelectSection(rule="positive")))
    assert (arm.edits, arm.tasks) == (3, 2)
    assert arm.gain and arm.gain.mean == pytest.approx((0.3 + 0.1) / 2)
    assert arm.accuracy and arm.accuracy.mean == pytest.approx(0.7)
    assert arm.likelihood is None
    assert kept(rewards, []).gain is None


def edit(name: str, **changes: object) -> Edit:
    plain = {
        "id": name, "task": "t", "slot": 0, "version": "v", "seed": 1, "prompt_ids": (1, 2), "ids": (3, 4),
        "logprobs": (-0.1, -0.2), "text": "x", "finish": "stop",
    }  # fmt: skip
    return Edit(**(plain | changes))  # type: ignore[arg-type]


def test_a_lesson_holds_what_was_sampled() -> None:
    choice = Choice("t", "a", 1.0, "", against="b", algorithm="pairs")
    (lesson,) = lessons([choice], {"a": edit("a"), "b": edit("b", ids=(5,), logprobs=(-0.3,))})
    assert lesson.text.ids == (3, 4) and lesson.against and lesson.against.ids == (5,)
    assert lesson.tokens == 7


@pytest.mark.parametrize(
    ("choice", "edits", "said"),
    [
        (Choice("t", "gone", 1.0, ""), {}, "gone"),
        (Choice("t", "a", 1.0, ""), {"a": edit("a", ids=())}, "no text"),
        (Choice("t", "a", 1.0, "", algorithm="grpo"), {"a": edit("a", logprobs=())}, "log-probabilities"),
        (Choice("t", "a", 1.0, "", algorithm="pairs"), {"a": edit("a")}, "to nothing"),
    ],
)
def test_a_choice_that_can_not_become_a_lesson_is_refused(choice: Choice, edits: dict[str, Edit], said: str) -> None:
    with pytest.raises(DataError, match=said):
        lessons([choice], edits)

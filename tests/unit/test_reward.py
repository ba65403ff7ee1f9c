"""From trials and verdicts to rewards: what counts, what is left out, and how sure it is."""

import json
import math
import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seal_ray.config import GradingSection
from seal_ray.grading.diversity import diversity, near_copies, similarity
from seal_ray.grading.measure import measure, question_likelihoods
from seal_ray.grading.racing import Standing
from seal_ray.grading.reward import RoundRewards, more_repeats, rewards
from seal_ray.grading.variance import components, means
from seal_ray.records import Candidate, Edit, Failure, Likelihood, Repeats, Reward, Trial, Verdict, encode

ROOT = Path(__file__).parents[2]
DATA = [ROOT / "../shared/data" / n for n in ("rewards_round0_dev.json", "rewards_round0_rewrite_dev.json")]
needs_data = pytest.mark.skipif(
    not all(p.exists() for p in DATA), reason="../shared/data/rewards_round0*.json is missing"
)
LOST = Failure("killed_worker", "gone", "infra")


class Round:
    """A round on paper: what each trial came to, question by question."""

    def __init__(self) -> None:
        self.edits: dict[str, Edit] = {}
        self.candidates: list[Candidate] = []
        self.trials: list[Trial] = []
        self.verdicts: list[Verdict] = []

    def edit(self, task: str, slot: int, text: str = "", failure: Failure | None = None) -> str:
        name = f"{task}/{slot}"
        self.edits.setdefault(name, Edit(name, task, slot, "v", 0, (), (), (), text or name, "stop", None, failure))
        return name

    def trial(
        self,
        task: str,
        slot: int,
        right: Sequence[float | None] | None = None,
        likely: list[float] | None = None,
        *,
        repeat: int = 0,
        lost: bool = False,
        grader: str = "lexical",
    ) -> None:
        """`slot` -1 is the baseline, -2 the context alone. None among `right`: that verdict failed."""
        kind = "edit" if slot >= 0 else "baseline" if slot == -1 else "context"
        name = f"{task}/{slot}/{repeat}"
        edit = self.edit(task, slot) if slot >= 0 else None
        self.candidates.append(Candidate(name, task, kind, edit, slot, repeat, repeat, None))
        likelihoods = tuple(Likelihood(f"q{n}", 0, 4 * value, 4) for n, value in enumerate(likely or []))
        self.trials.append(Trial(name, task, likelihoods=likelihoods, failure=LOST if lost else None))
        for n, value in enumerate(right or []):
            bad = value is None
            failure = Failure("judge", "x", "infra") if bad else None
            self.verdicts.append(Verdict(name, f"q{n}", grader, None if value is None else value > 0.5, value, failure))

    def worth(self, reward: str = "accuracy", **options) -> RoundRewards:
        section = GradingSection.model_construct(**{**GradingSection().model_dump(), "reward": reward, **options})
        return rewards(list(self.edits.values()), self.candidates, self.trials, self.verdicts, section=section)


def best_of(worth: RoundRewards) -> list[Reward]:
    """Each task's best edit, whether it beats its baseline or not."""
    best: dict[str, Reward] = {}
    for reward in worth.rewards:
        if reward.task not in best or reward.value.mean > best[reward.task].value.mean:
            best[reward.task] = reward
    return list(best.values())


def simulated(tasks: int, edits: int, repeats: int, signal: float, noise: float, shared: float, seed: int) -> Round:
    """Likelihoods with known variance components; the accuracy is their sign."""
    draw = np.random.default_rng(seed)
    found = Round()
    for t in range(tasks):
        task = f"t{t:03}"
        found.trial(task, -1, likely=[0.0])
        effects = draw.normal(0, signal, edits)
        seeds = draw.normal(0, shared, repeats)
        for e in range(edits):
            for r in range(repeats):
                found.trial(task, e, likely=[effects[e] + seeds[r] + draw.normal(0, noise)], repeat=r)
    return found


def test_a_reward_is_the_gain_over_the_tasks_baseline() -> None:
    found = Round()
    found.trial("t", -1, [1, 0, 0, 0])
    for repeat, right in enumerate(([1, 1, 1, 0], [1, 1, 0, 0])):
        found.trial("t", 0, right, repeat=repeat)
        found.trial("t", 1, [0, 0, 0, 0], repeat=repeat)
    worth = found.worth()
    best, worst = worth.rewards
    assert best.raw.mean == pytest.approx(0.625 - 0.25)
    assert worst.raw.mean == pytest.approx(-0.25)
    assert best.accuracy is not None
    assert (best.accuracy.mean, best.accuracy.n) == (pytest.approx(0.625), 2)
    assert best.value.error > 0
    assert worth.arms["base"]["accuracy"].mean == 0.25  # pyright: ignore[reportOptionalMemberAccess]
    assert worth.arms["edit"]["accuracy"].mean == pytest.approx(0.3125)  # pyright: ignore[reportOptionalMemberAccess]
    assert json.dumps(encode(worth)), "it goes to the ledger"


def test_failed_trials_are_left_out_and_never_a_zero() -> None:
    whole, holed = Round(), Round()
    for found in (whole, holed):
        found.trial("t", -1, [0, 0])
        for slot in (0, 1):
            found.trial("t", slot, [1, 1], repeat=0)
            found.trial("t", slot, [1, 1], repeat=1)
    holed.trial("t", 0, [0, 0], repeat=2, lost=True)
    holed.trial("t", 2, lost=True)
    assert [(r.slot, r.raw.mean) for r in holed.worth().rewards] == [
        (r.slot, r.raw.mean) for r in whole.worth().rewards
    ]
    assert [r.slot for r in holed.worth().rewards] == [0, 1], "an edit whose trials all failed has no reward"


def test_a_failed_verdict_is_not_a_wrong_answer() -> None:
    found = Round()
    found.trial("t", -1, [0, 0, 0, 0])
    found.trial("t", 0, [1, 1, 1, 1], repeat=0)
    found.trial("t", 0, [1, 1, 1, None], repeat=1)
    found.trial("t", 0, [1, None, None, None], repeat=2)
    (reward,) = found.worth().rewards
    assert reward.raw.mean == pytest.approx(1.0, abs=0.15)
    assert reward.raw.n == 2, "a trial of which most verdicts are missing does not count"


def test_questions_that_one_trial_lacks_are_as_hard_for_it_as_for_the_others() -> None:
    """The lost verdict is on a question that all others get wrong: without correction the trial would gain by it."""
    found = Round()
    for slot in range(3):
        found.trial("t", slot, [1, 0, 0] if slot else [1, 0, None])
    values = {m.edit: m.accuracy for m in measure(found.candidates, found.trials, found.verdicts, "lexical")}
    assert values["t/0"] == pytest.approx(values["t/1"])


def test_a_task_without_its_baseline_gives_no_rewards_and_says_so() -> None:
    found = Round()
    found.trial("t", -1, lost=True)
    found.trial("t", 0, [1])
    worth = found.worth()
    assert worth.rewards == ()
    assert worth.notes == ("t: its baseline has no accuracy, so its edits have no reward",)


def test_one_question_and_one_repeat_say_nothing_of_chance_and_that_is_said() -> None:
    alone, more = Round(), Round()
    for found, right in ((alone, [1]), (more, [1, 0])):
        for slot in (-1, 0, 1):
            found.trial("t", slot, right if slot else [0] * len(right))
    assert more.worth().notes == ()
    (note,) = alone.worth().notes
    assert note.startswith("1 of 1 tasks have one question") and "raise inner.repeats" in note
    assert [r.value.error for r in alone.worth().rewards] == [0.0, 0.0]
    alone.trial("t", 0, [0], repeat=1)
    alone.trial("t", 1, [1], repeat=1)
    assert alone.worth().notes == (), "a second repeat tells"


def test_nothing_at_all_is_no_error() -> None:
    worth = Round().worth()
    assert worth.rewards == ()
    assert set(worth.reliability.values()) == {None}
    assert worth.diversity is None


def test_the_best_accepted_answer_counts_for_the_likelihood() -> None:
    trial = Trial(
        "c", "t", likelihoods=(Likelihood("q", 0, 0, 0), Likelihood("q", 1, -8.0, 4), Likelihood("q", 2, -6.0, 2))
    )
    assert question_likelihoods(trial) == {"q": -2.0}


def test_the_configured_graders_verdicts_count_where_there_are_several() -> None:
    found = Round()
    found.trial("t", -1, [0, 0])
    found.trial("t", 0, [1, 1])
    found.verdicts += [Verdict("t/0/0", f"q{n}", "judge", False, 0.0) for n in range(2)]
    assert found.worth().rewards[0].raw.mean == 1
    assert found.worth(grader="judge").rewards[0].raw.mean == 0
    assert found.worth(grader="exact").rewards, "a domain's own grader counts where the configured one said nothing"


def test_first_records_count() -> None:
    found = Round()
    found.trial("t", -1, likely=[-2.0])
    found.trial("t", 0, likely=[-1.0])
    found.trials.append(Trial("t/0/0", "t", likelihoods=(Likelihood("q0", 0, -9.0, 1),)))
    assert found.worth("likelihood").rewards[0].raw.mean == pytest.approx(1.0)


def test_the_blend_puts_both_measures_on_one_scale() -> None:
    found = Round()
    found.trial("t", -1, [0, 0], [-4.0])
    for repeat in range(2):
        found.trial("t", 0, [1, 0], [-3.0], repeat=repeat)
        found.trial("t", 1, [0, 0], [-1.0], repeat=repeat)
    by_share = {share: [r.raw.mean for r in found.worth("blend", blend=share).rewards] for share in (0.0, 0.5, 1.0)}
    assert by_share[0.0] == pytest.approx([0.5, 0.0])
    scale = 0.5 / 2.0  # the spreads of the two measures over the trials
    assert by_share[1.0] == pytest.approx([1 * scale, 3 * scale])
    assert by_share[0.5] == pytest.approx([(0.5 + 0.25) / 2, 0.75 / 2])


def test_without_likelihoods_a_blend_falls_back_to_accuracy_and_says_so() -> None:
    found = Round()
    found.trial("t", -1, [0])
    found.trial("t", 0, [1])
    worth = found.worth("blend")
    assert (worth.measure, worth.rewards[0].raw.mean) == ("accuracy", 1)
    assert "no trial has a blend" in worth.notes[0]


@pytest.mark.parametrize(("signal", "noise"), [(0.5, 1.0), (1.0, 0.5), (0.0, 1.0)])
def test_the_reliability_is_that_of_the_simulation(signal: float, noise: float) -> None:
    worth = simulated(400, 5, 3, signal, noise, shared=0.7, seed=1).worth("likelihood")
    true = signal**2 / (signal**2 + noise**2 / 3)
    assert worth.reliability["likelihood"] == pytest.approx(true, abs=0.04)
    assert worth.reliability["accuracy"] is None


def test_the_reliability_predicts_what_comes_back_on_a_fresh_seed() -> None:
    found = simulated(400, 5, 3, 0.6, 1.0, shared=0.5, seed=2)
    table = np.array([t.likelihoods[0].logprob / 4 for t in found.trials if "/-1/" not in t.id]).reshape(400, 5, 3)
    seen = table[..., :2].mean(2)
    seen = seen - seen.mean(1, keepdims=True)
    measured = (seen * table[..., 2]).sum() / (seen * seen).sum()
    tables = [{str(e): dict(enumerate(map(float, row))) for e, row in enumerate(task)} for task in table]
    estimate = components(tables)
    assert estimate is not None
    assert estimate.reliability(2) == pytest.approx(measured, abs=0.05)


def test_shrunk_values_promise_what_a_fresh_seed_gives() -> None:
    """The chosen edit's raw gain is too good to be true; the shrunk one is not."""
    draw = np.random.default_rng(3)
    raw, promised, true = [], [], []
    found = Round()
    effects = draw.normal(0, 0.5, (300, 5))
    for t in range(300):
        found.trial(f"t{t:03}", -1, likely=[0.0])
        for e in range(5):
            for r in range(2):
                found.trial(f"t{t:03}", e, likely=[effects[t, e] + draw.normal(0, 1.0)], repeat=r)
    worth = found.worth("likelihood")
    for reward in best_of(worth):
        raw.append(reward.raw.mean)
        promised.append(reward.value.mean)
        true.append(effects[int(reward.task[1:]), reward.slot])
    assert np.mean(raw) > np.mean(true) + 0.3
    assert np.mean(promised) == pytest.approx(np.mean(true), abs=0.1)


def test_errors_cover_the_truth_about_as_often_as_they_should() -> None:
    draw = np.random.default_rng(4)
    found = Round()
    effects = draw.normal(0, 0.5, (200, 4))
    for t in range(200):
        found.trial(f"t{t:03}", -1, likely=[0.0])
        for e in range(4):
            for r in range(3):
                found.trial(f"t{t:03}", e, likely=[effects[t, e] + draw.normal(0, 1.0)], repeat=r)
    off = [(r.value.mean - effects[int(r.task[1:]), r.slot]) / r.value.error for r in found.worth("likelihood").rewards]
    assert np.std(off) == pytest.approx(1.0, abs=0.12)


def test_repeats_that_only_some_edits_have_are_compared_by_their_common_seeds() -> None:
    """The third seed is a bad one for all edits; whoever ran it must not look worse for it."""
    draw = np.random.default_rng(5)
    tables = []
    for _ in range(50):
        seeds = draw.normal(0, 2.0, 3)
        tables.append({e: {r: float(seeds[r] + draw.normal(0, 0.1)) for r in range(3)} for e in "ab"})
    pooled = components(tables)
    holed = {"a": {0: 0.0, 1: 0.1, 2: -5.0}, "b": {0: 0.05, 1: 0.1}, "c": {0: 0.02, 1: 0.03, 2: -5.1}}
    adjusted = means(holed, pooled)
    assert adjusted["a"] == pytest.approx(adjusted["b"], abs=0.1)
    assert means(holed, None)["b"] - means(holed, None)["a"] > 1


def test_one_repeat_still_has_an_error_and_an_order() -> None:
    found = Round()
    found.trial("t", -1, [0, 0, 0, 0])
    found.trial("t", 0, [1, 1, 1, 0])
    found.trial("t", 1, [0, 1, 0, 0])
    worth = found.worth()
    assert worth.reliability["accuracy"] is None
    assert worth.rewards[0].value.mean > worth.rewards[1].value.mean
    assert all(r.value.error > 0 for r in worth.rewards)


def test_the_order_of_records_makes_no_difference() -> None:
    found = simulated(6, 4, 3, 0.5, 1.0, 0.2, seed=6)
    one = found.worth("likelihood")
    found.candidates.reverse()
    found.trials.reverse()
    found.edits = dict(reversed(found.edits.items()))
    other = found.worth("likelihood")
    assert [r.edit for r in one.rewards] == [r.edit for r in other.rewards]
    assert [r.value.mean for r in one.rewards] == pytest.approx([r.value.mean for r in other.rewards])


def test_the_rubric_rewards_edits_without_a_trial() -> None:
    found = Round()
    for slot, scores in enumerate(((1.0, 0.5), (0.25, 0.25))):
        name = found.edit("t", slot)
        found.verdicts += [Verdict(name, str(n), "rubric", None, s) for n, s in enumerate(scores)]
    found.edit("t", 2)
    found.verdicts.append(Verdict("t/2", "rubric", "rubric", None, None, LOST))
    worth = found.worth("rubric")
    assert [(r.slot, r.value.mean) for r in worth.rewards] == [(0, 0.75), (1, 0.25)]
    assert worth.measure == "rubric"
    assert "t/2" in worth.notes[0]


# more repeats


@dataclass
class Race:
    standings: list[Standing]


def race(*means_: float, error: float = 0.2, noise: float = 0.1, task: str = "t", following: int = 2) -> Race:
    return Race([Standing(f"{task}{n}", task, 2, following, m, error, noise) for n, m in enumerate(means_)])


def trials_of(requests: list[Repeats]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for r in requests:
        for edit in r.edits:
            spent[edit] = spent.get(edit, 0) + r.repeats
    return spent


def test_repeats_go_to_the_edits_between_which_the_choice_is_open() -> None:
    requests = more_repeats(race(0.50, 0.48, -2.0, -3.0), 8, [], "v")
    assert set(trials_of(requests)) == {"t0", "t1"}
    assert all(r.first == 2 and r.task == "t" and r.version == "v" for r in requests)
    assert "ahead by 0.02" in requests[0].reason


def test_a_choice_that_is_made_costs_nothing_more() -> None:
    assert more_repeats(race(2.0, 0.0, error=0.1), 100, [], "v") == []
    assert more_repeats(race(1.0), 100, [], "v") == [], "a single edit has no rival"
    assert more_repeats(race(0.5, 0.5, error=0.0, noise=0.0), 100, [], "v") == []


def test_the_open_task_gets_more_than_the_nearly_decided_one() -> None:
    both = Race([*race(0.5, 0.5, task="open").standings, *race(0.5, 0.05, task="near").standings])
    spent = trials_of(more_repeats(both, 12, [], "v", portion=1.0))
    assert sum(spent.values()) == 12
    assert spent["open0"] > spent.get("near0", 0)


def test_the_budget_holds_over_all_calls_and_a_resumed_run_asks_the_same() -> None:
    worth, asked = race(0.5, 0.5, 0.4, error=1.0, noise=1.0), []
    while requests := more_repeats(worth, 21, asked, "v"):
        assert requests == more_repeats(worth, 21, list(asked), "v")
        asked += requests
        assert len({r.id for r in asked}) == len(asked)
        nexts = {e: r.first + r.repeats for r in asked for e in r.edits}
        worth = Race(
            [
                Standing(s.edit, s.task, s.repeats, nexts.get(s.edit, s.following), s.mean, s.error, s.noise)
                for s in worth.standings
            ]
        )
    assert sum(trials_of(asked).values()) == 20, "pairs are asked for, so one of 21 stays"
    cells = [(e, n) for r in asked for e in r.edits for n in range(r.first, r.first + r.repeats)]
    assert len(cells) == len(set(cells)), "no repeat is asked for twice"


def test_failed_repeats_are_not_asked_for_again() -> None:
    found = Round()
    found.trial("t", -1, likely=[0.0])
    for slot in (0, 1):
        found.trial("t", slot, likely=[1.0], repeat=0)
        found.trial("t", slot, likely=[2.0 + slot / 10], repeat=1)
        found.trial("t", slot, lost=True, repeat=2)
    requests = more_repeats(found.worth("likelihood"), 4, [], "v")
    assert {r.first for r in requests} == {3}


def test_repeats_that_are_raced_choose_better_than_repeats_that_are_spread() -> None:
    """Same budget: three repeats each, or two each and the rest where the choice is open."""
    draw = np.random.default_rng(7)
    tasks, edits = 150, 5
    effects, chance = draw.normal(0, 1.0, (tasks, edits)), draw.normal(0, 1.0, (tasks, edits, 40))

    def choose(repeats: dict[tuple[int, int], int]) -> RoundRewards:
        found = Round()
        for t in range(tasks):
            found.trial(f"t{t:03}", -1, likely=[0.0])
            for e in range(edits):
                for r in range(repeats[t, e]):
                    found.trial(f"t{t:03}", e, likely=[effects[t, e] + chance[t, e, r]], repeat=r)
        return found.worth("likelihood")

    def quality(worth: RoundRewards) -> float:
        return float(np.mean([effects[int(r.task[1:]), r.slot] for r in best_of(worth)]))

    spread = quality(choose({(t, e): 3 for t in range(tasks) for e in range(edits)}))
    repeats, asked = {(t, e): 2 for t in range(tasks) for e in range(edits)}, []
    worth = choose(repeats)
    while requests := more_repeats(worth, tasks * edits, asked, "v"):
        asked += requests
        for edit, count in trials_of(requests).items():
            task, slot = edit.split("/")
            repeats[int(task[1:]), int(slot)] += count
        worth = choose(repeats)
    assert sum(repeats.values()) <= 3 * tasks * edits
    assert quality(worth) > spread + 0.01


# real rewards


@needs_data
def test_on_published_rewards_the_estimate_is_what_a_left_out_repeat_shows() -> None:
    bench = SimpleNamespace(**runpy.run_path(str(ROOT / "jobs/bench_rewards.py")))
    passages = [p for path in DATA for p in bench.read(path)]
    parts = bench.comes_back(passages).sum(0)
    assert bench.estimated(passages, 2) == pytest.approx(parts[0] / parts[1], abs=1e-6)
    rounds = [bench.as_round(passages, [n for n in range(3) if n != left_out]) for left_out in range(3)]
    ours, _ = bench.score(passages, bench.RULES["best, margin 0"], rounds)
    plain, _ = bench.score(passages, bench.plain_best, rounds)
    assert bench.interval(ours - plain)[1] > 0, "no worse than plain best of mean, as far as the data can say"
    measured, promised, came = bench.promised(passages, rounds)
    assert measured - came > 0.1
    assert promised == pytest.approx(came, abs=0.05)


# diversity


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    assert similarity("The cat sat down.", "the CAT, sat down") == 1
    assert similarity("one two three four", "five six seven eight") == 0
    assert similarity("a b c d", "a b c e") == pytest.approx(1 / 3)
    assert diversity(["a b c d", "a b c d"]) == 0
    assert diversity(["a b c d", "a b c e", "x y z"]) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert diversity(["alone"]) is None
    assert similarity("", "") == 1
    assert 0 < similarity("猫が好きです", "猫が好きです") <= 1


def test_near_copies_are_found_and_the_first_is_kept() -> None:
    texts = ["a b c d e f g h", "something else", "a b c d e f g h!", "a b c d e f g x"]
    assert near_copies(texts, 0.99) == {2: 0}
    assert near_copies(texts, 0.7) == {2: 0, 3: 0}


def test_a_round_knows_the_diversity_of_its_edits() -> None:
    found = Round()
    for slot, text in enumerate(("a b c d", "a b c d", "")):
        found.edit("t", slot, text, Failure("no_text", "x") if not text else None)
    assert found.worth().diversity == 0
    assert math.isfinite(sum(r.value.mean for r in found.worth().rewards))

"""How sure a reward is: what is estimated from a round's own repeats, against what fresh ones bring."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reward_rounds import PaperRound, best_of, simulated

from seal_ray.grading.variance import components, means

ROOT = Path(__file__).parents[2]
DATA = [ROOT / "../shared/data" / n for n in ("rewards_round0_dev.json", "rewards_round0_rewrite_dev.json")]
needs_data = pytest.mark.skipif(
    not all(p.exists() for p in DATA), reason="../shared/data/rewards_round0*.json is missing"
)


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
    found = PaperRound()
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
    found = PaperRound()
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
    found = PaperRound()
    found.trial("t", -1, [0, 0, 0, 0])
    found.trial("t", 0, [1, 1, 1, 0])
    found.trial("t", 1, [0, 1, 0, 0])
    worth = found.worth()
    assert worth.reliability["accuracy"] is None
    assert worth.rewards[0].value.mean > worth.rewards[1].value.mean
    assert all(r.value.error > 0 for r in worth.rewards)


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

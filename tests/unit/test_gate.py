"""The rule that keeps a bad update from going anywhere, and how often it errs."""

import math

import numpy as np
import pytest

from seal_ray.config import GateSection
from seal_ray.errors import CoverageError
from seal_ray.policy.bootstrap import estimate, paired, table
from seal_ray.policy.gate import GateDecision, decide

AUTO = GateSection(mode="auto")


def gains(mean: float, tasks: int, seed: int, spread: float = 0.15, edits: int = 2) -> dict[str, list[float]]:
    """Gains as rewards have them: how much a task has to give is shared by both versions, the edits' noise is not."""
    shared = np.random.Generator(np.random.PCG64(99))
    own = np.random.Generator(np.random.PCG64(seed))
    return {f"t{i}": list(shared.normal(mean, 0.2) + own.normal(0, spread, edits)) for i in range(tasks)}


def judged(old: dict, new: dict, section: GateSection = AUTO, **more: object) -> GateDecision:
    full: dict = {"regression_old": {}, "regression_new": {}, "drift": None} | more
    return decide(old, new, full["regression_old"], full["regression_new"], full["drift"], section, seed=3)


def test_a_clearly_better_version_is_accepted_with_its_figures() -> None:
    found = judged(gains(0.1, 20, 1), gains(0.25, 20, 2))
    assert found.decision == "accept"
    assert found.figures["gain"] == pytest.approx(0.15, abs=0.1)
    assert found.figures["gain_low"] < found.figures["gain"] < found.figures["gain_high"]
    assert found.figures["tasks"] == 20


def test_a_clearly_worse_version_is_rejected_with_the_figure_in_the_reason() -> None:
    found = judged(gains(0.25, 20, 1), gains(0.1, 20, 2))
    assert found.decision == "reject"
    assert any(f"{found.figures['gain']:+.3f}" in reason for reason in found.reasons)


def test_a_small_but_certain_loss_is_no_gain() -> None:
    old = gains(0.1, 20, 1)
    slightly_worse = {t: [v - 0.02 for v in values] for t, values in old.items()}
    found = judged(old, slightly_worse)
    assert found.decision == "reject" and "min_gain" in found.reasons[0]
    assert judged(old, slightly_worse, GateSection(mode="auto", min_gain=-0.03)).decision == "accept"


def test_a_gain_that_may_as_well_be_a_loss_is_not_trusted() -> None:
    old = {f"t{i}": 0.0 for i in range(10)}
    new = {f"t{i}": 0.5 if i % 2 else -0.45 for i in range(10)}
    found = judged(old, new)
    assert found.figures["gain"] > 0 and found.decision == "reject" and "tolerance" in found.reasons[0]
    assert judged(old, new, GateSection(mode="auto", tolerance=0.5)).decision == "accept"


def test_forgetting_rejects_a_version_that_writes_better() -> None:
    old, new = gains(0.1, 20, 1), gains(0.3, 20, 2)
    before = {f"q{i}": 1.0 for i in range(40)}
    held = before | {"q0": 0.0, "q1": 0.0}
    lost = held | {"q2": 0.0}
    assert judged(old, new, regression_old=before, regression_new=held).decision == "accept"
    found = judged(old, new, regression_old=before, regression_new=lost)
    assert found.decision == "reject" and "7.5%" in found.reasons[0]
    lenient = GateSection(mode="auto", max_regression=0.08)
    assert judged(old, new, lenient, regression_old=before, regression_new=lost).decision == "accept"


def test_drift_rejects_a_version_that_writes_better() -> None:
    old, new = gains(0.1, 20, 1), gains(0.3, 20, 2)
    assert judged(old, new, drift=0.9).decision == "accept"
    found = judged(old, new, drift=1.1)
    assert found.decision == "reject" and "max_kl" in found.reasons[0]


def test_drift_that_nobody_measured_is_said_to_have_had_no_say() -> None:
    old, new = gains(0.1, 20, 1), gains(0.3, 20, 2)
    assert "drift from the base was not measured" in judged(old, new).reasons[-1]
    assert "drift from the base was not measured" in judged(new, old).reasons[-1], "whatever else is said"
    assert not any("drift" in reason for reason in judged(old, new, drift=0.9).reasons)


def test_hold_leaves_the_decision_to_a_person_and_says_what_the_rule_would() -> None:
    section = GateSection(mode="hold")
    assert (judged(gains(0.1, 9, 1), gains(0.4, 9, 2), section).decision) == "hold"
    assert (judged(gains(0.1, 9, 1), gains(0.4, 9, 2), section).advice) == "accept"
    assert (judged(gains(0.4, 9, 1), gains(0.1, 9, 2), section).advice) == "reject"


def test_off_accepts_without_looking() -> None:
    assert judged({}, {}, GateSection(mode="off")).decision == "accept"


def test_holes_stop_the_gate_instead_of_deciding_it() -> None:
    old, new = gains(0.1, 20, 1), gains(0.3, 20, 2)
    few = {t: new[t] for t in list(new)[:9]}
    with pytest.raises(CoverageError, match="9 of 20"):
        judged(old, few)
    with pytest.raises(CoverageError, match="in common"):
        judged(old, {})
    before = {f"q{i}": 1.0 for i in range(10)}
    with pytest.raises(CoverageError, match="4 of 10"):
        judged(old, new, regression_old=before, regression_new={f"q{i}": 1.0 for i in range(4)})
    with pytest.raises(CoverageError, match="t1"):
        judged(old, new | {"t1": [math.nan]})


def test_the_same_gate_decides_the_same_way() -> None:
    old, new = gains(0.1, 20, 1), gains(0.12, 20, 2)
    assert judged(old, new) == judged(dict(reversed(old.items())), new)


def error_rates(effect: float, gates: int = 200, tasks: int = 20) -> float:
    """The share of gates that accept when the true gain is `effect`."""
    accepted = 0
    for gate in range(gates):
        old = gains(0.1, tasks, 1000 + 2 * gate)
        new = gains(0.1 + effect, tasks, 1001 + 2 * gate)
        accepted += judged(old, new).decision == "accept"
    return accepted / gates


def test_over_simulated_gates_harm_is_seldom_accepted_and_good_seldom_rejected() -> None:
    rates = {effect: error_rates(effect) for effect in (-0.1, -0.05, 0.0, 0.05, 0.1)}
    print("accepted, by true gain (20 tasks, 2 edits, noise 0.15):", rates)
    assert rates[-0.1] <= 0.02
    assert rates[-0.05] <= 0.10
    assert rates[0.05] >= 0.80
    assert rates[0.1] >= 0.97
    assert sorted(rates.values()) == list(rates.values())


def test_the_bootstrap_interval_covers_as_often_as_it_says() -> None:
    random = np.random.Generator(np.random.PCG64(5))
    hit = 0
    for trial in range(300):
        first = {f"t{i}": v for i, v in enumerate(random.normal(0, 1, 30))}
        second = {t: v + random.normal(0.3, 0.5) for t, v in first.items()}
        found = paired(first, second, seed=trial, confidence=0.9, samples=2000)
        hit += found.low <= 0.3 <= found.high
    assert 0.84 <= hit / 300 <= 0.95


def test_pairing_cancels_how_hard_a_task_is() -> None:
    first = {f"t{i}": float(i) for i in range(20)}
    second = {t: v + 0.1 for t, v in first.items()}
    found = paired(first, second, seed=1)
    assert found.low == pytest.approx(0.1) == found.high
    assert found.better == 1.0


def test_an_arm_is_summed_up_over_tasks_and_not_over_edits() -> None:
    found = estimate({"many": [1.0] * 50, "one": [0.0]})
    assert found.mean == 0.5 and found.n == 2
    assert estimate({"one": 0.5}).error == math.inf


def test_a_table_says_what_could_not_be_compared() -> None:
    rows = table({"base": {"a": 0.1, "b": 0.2}, "ours": {"a": 0.3, "b": 0.4}, "hole": {}}, against="base", seed=1)
    assert rows["ours"]["difference"].mean == pytest.approx(0.2)  # type: ignore[attr-defined]
    assert "difference" not in rows["base"]
    assert "single score" in rows["hole"]["missing"]  # type: ignore[operator]

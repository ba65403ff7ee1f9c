"""Intervals of means whose values come in clusters: questions about one task share its edits and its adapters."""

import numpy as np
import pytest

from seal_ray.policy import bootstrap
from seal_ray.policy.bootstrap import clustered


def test_answers_that_a_task_shares_make_nothing_surer() -> None:
    luck = np.random.default_rng(1)
    tasks = [float(x) for x in luck.random(20)]
    alone = clustered(tasks, range(20), seed=1, confidence=0.9)
    tenfold = clustered([x for x in tasks for _ in range(10)], [n for n in range(20) for _ in range(10)], seed=1)
    assert alone == pytest.approx(tenfold) and alone and alone[1] - alone[0] > 0.1
    assert clustered([0.0, 1.0] * 10, [n // 2 for n in range(20)], seed=1) == (0.5, 0.5), "each task is half right"
    assert clustered([0.0, 1.0, 1.0], ["t"] * 3, seed=1) is None, "one task tells nothing of others"


def test_an_interval_holds_the_truth_as_often_as_it_says_for_few_tasks_and_for_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    luck = np.random.default_rng(2)

    def holds(tasks: int) -> bool:
        found = [(n, x + luck.normal(0, 0.3)) for n, x in enumerate(luck.normal(0, 1, tasks)) for _ in range(1 + n % 4)]
        interval = clustered([v for _, v in found], [n for n, _ in found], seed=3)
        assert interval
        return interval[0] < 0 < interval[1]

    assert 0.83 < np.mean([holds(30) for _ in range(300)]) < 0.95
    monkeypatch.setattr(bootstrap, "MANY", 10)
    assert 0.83 < np.mean([holds(30) for _ in range(300)]) < 0.95

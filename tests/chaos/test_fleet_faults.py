"""Workers and nodes that die in the middle of a round, on several Ray nodes of one machine, with trials that sleep."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_cluster import Fleet, attempts, nodes
from seeds import drawing

from seal_ray.events import Warned
from seal_ray.fleet.marked_processes import processes_of

pytestmark = pytest.mark.slow


def worth(done: dict[str, Any]) -> dict[str, float]:
    return {name: trial.likelihoods[0].logprob for name, trial in done.items() if not trial.failure}


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with nodes(2, 2, 2) as made:
        yield made


@pytest.mark.parametrize("seed", range(8))
def test_random_faults_change_nothing_in_the_result(bench: Any, seed: int) -> None:
    cluster, others = bench
    print(f"schedule seed {seed}")
    chance = drawing(seed)
    work = attempts(8, 6, seed)
    expected = {a.candidate.id: -float(a.candidate.seed % 97) / 10 for a in work}
    fleet = Fleet()
    faults = sorted((chance.randint(0, 30), chance.choice(["kill", "kill", "crash", "add"])) for _ in range(3))
    made: list[str] = []

    def often(done: int) -> None:
        while faults and done >= faults[0][0]:
            what = faults.pop(0)[1]
            print(f"after {done} trials: {what}")
            made.append(what)
            if what == "kill":
                pids = fleet.pids()
                if pids:
                    os.kill(pids[chance.choice(sorted(pids))], signal.SIGKILL)
            elif what == "crash" and len(others) > 2:
                cluster.remove_node(others.pop(chance.randrange(len(others))), allow_graceful=chance.random() < 0.5)
            else:
                others.append(cluster.add_node(num_cpus=2))

    try:
        done = fleet.run(work, limit=90, often=often)
        assert worth(done) == expected
        assert len(made) == 3
    finally:
        fleet.close()
        while len(others) < 3:
            others.append(cluster.add_node(num_cpus=2))


def test_candidates_that_kill_hang_or_run_out_of_memory_end_with_their_kind(bench: Any) -> None:
    fleet = Fleet(candidate_deadline=8.0)
    work = attempts(6, 4)
    for prefix in ("kill", "hang", "oom"):
        work += attempts(1, 1, prefix=prefix)
    try:
        done = fleet.run(work, limit=150)
        failed = {name: trial.failure.kind for name, trial in done.items() if trial.failure}
        assert failed == {"kill0-0": "killed_worker", "hang0-0": "deadline", "oom0-0": "out_of_memory"}
        warnings = [e.message for e in fleet.events if isinstance(e, Warned)]
        assert any("time.sleep(3600)" in w for w in warnings), "no stacks of the hanging one"
    finally:
        fleet.close()


def test_nothing_of_the_workers_is_left_after_release(bench: Any) -> None:
    fleet = Fleet()
    fleet.run(attempts(2, 3), limit=60)
    mark = fleet.held.mark("worker")
    assert processes_of(mark, False), "the workers do not carry the mark of their lease"
    fleet.close()
    assert not processes_of(mark, False)

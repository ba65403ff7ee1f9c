"""What a run asks of an autoscaler: nodes that come on one machine when there is work, and workers that sleep."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
import ray
from autoscaled_cluster import autoscaled, raylets_of
from fleet_cluster import Fleet, attempts
from ray.util.placement_group import placement_group_table

from seal_ray.events import WaveDone

pytestmark = pytest.mark.slow

NODE = {"CPU": 1.0}
WANTED = {"max_workers": 4, "worker_grace": 90.0, "deadline": 90.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with autoscaled(6, NODE) as address:
        yield address


def nodes() -> int:
    """Nodes that are alive, without the head."""
    return sum(n["Alive"] for n in ray.nodes()) - 1


def asked() -> int:
    """Placement groups that are there or waited for."""
    return sum(g["state"] != "REMOVED" for g in placement_group_table().values())


def kill_nodes() -> None:
    """All nodes but the head lose their raylets, as machines that are taken away do."""
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            for pid in raylets_of(node["NodeID"]):
                os.kill(pid, signal.SIGKILL)


def none_is_left(within: float) -> bool:
    """Nodes that nothing asks for have gone."""
    until = time.monotonic() + within
    while nodes() and time.monotonic() < until:
        time.sleep(0.5)
    return nodes() == 0


def workers(fleet: Fleet) -> set[str]:
    return {e.worker for e in fleet.events if isinstance(e, WaveDone)}


def test_from_no_node_to_as_many_as_there_is_work_for_and_back(cluster: str) -> None:
    assert nodes() == 0
    fleet = Fleet(**WANTED)
    began, seen = time.monotonic(), list[tuple[float, int, int]]()

    def often(done: int) -> None:
        now = (nodes(), asked())
        if not seen or seen[-1][1:] != now:
            seen.append((round(time.monotonic() - began, 1), *now))

    work = attempts(60, 10)  # enough to last until slow machines have started all nodes
    done = fleet.run(work, limit=280, often=often)
    print("seconds, nodes, groups:", seen)
    assert len(done) == len(work) and not any(t.failure for t in done.values())
    assert max(groups for _, _, groups in seen) == 4, "more was asked for than the run may have"
    assert max(n for _, n, _ in seen) == 4 and len(workers(fleet)) == 4
    fleet.close()
    closed = time.monotonic()
    assert asked() == 0
    assert none_is_left(within=90)
    print("seconds from the end to no node:", round(time.monotonic() - closed, 1))


def test_a_last_worker_that_is_lost_is_replaced_by_a_new_node(cluster: str) -> None:
    fleet = Fleet(**WANTED | {"max_workers": 1, "worker_grace": 200.0})
    lost: list[float] = []

    def often(done: int) -> None:
        if done >= 4 and not lost:
            kill_nodes()
            lost.append(time.monotonic())

    work = attempts(6, 6, prefix="lost")
    done = fleet.run(work, limit=280, often=often)
    print("seconds from the loss to the end:", round(time.monotonic() - lost[0], 1))
    assert len(done) == len(work) and not any(t.failure for t in done.values())
    assert len(workers(fleet)) >= 2
    fleet.close()
    assert asked() == 0


def test_two_runs_at_once_both_get_on(cluster: str) -> None:
    """Two fleets, each with what it reserved, driven in turn by this process as two drivers would drive them."""
    one, two = Fleet(**WANTED | {"max_workers": 2}), Fleet(**WANTED | {"max_workers": 2})
    work = [attempts(20, 6, prefix="one"), attempts(20, 6, prefix="two")]
    for fleet, own in zip((one, two), work, strict=True):
        fleet.begin(own)
    done: list[set[str]] = [set(), set()]
    began = time.monotonic()
    together = False
    while one.pool.pending() or two.pool.pending():
        assert time.monotonic() - began < 280, (one.pool.pending(), two.pool.pending())
        for fleet, known in ((one, done[0]), (two, done[1])):
            known |= {trial.candidate for trial in fleet.pool.poll(0.05)}
        together = together or (one.alive() > 0 and two.alive() > 0)
    assert together, "they ran one after the other"
    assert done == [{a.candidate.id for a in own} for own in work]
    for fleet in (one, two):
        fleet.close()
    assert asked() == 0

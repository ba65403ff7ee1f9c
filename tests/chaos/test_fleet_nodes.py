"""Nodes that leave for good or arrive late, each time on a cluster of its own."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from fleet_cluster import Fleet, attempts, nodes

from seal_ray.errors import InfraError, PlacementError
from seal_ray.events import ActorChanged, WaveDone
from seal_ray.fleet.fair_share import read_claim
from seal_ray.fleet.reservations import RayGroups

pytestmark = pytest.mark.slow


def held(*fleets: Fleet) -> tuple[float, ...]:
    """The CPUs that Ray has granted to each of these runs."""
    claims = [c for name, granted in RayGroups().states().items() if (c := read_claim(name, granted))]
    return tuple(sum(c.units for c in claims if c.granted and c.run == f.held.reservations.run) for f in fleets)


def drive(fleets: list[Fleet], until: Callable[[], bool], limit: float = 200) -> None:
    """As so many drivers would, each in its turn."""
    end = time.monotonic() + limit
    while not until():
        assert time.monotonic() < end, held(*fleets)
        for fleet in fleets:
            assert not any(trial.failure for trial in fleet.pool.poll(0.05))


def test_below_the_least_workers_it_stops_and_says_why() -> None:
    with nodes(1) as (cluster, others):
        fleet = Fleet(worker_grace=4.0, candidate_deadline=30.0)

        def often(done: int) -> None:
            if done > 8 and others:
                cluster.remove_node(others.pop(), allow_graceful=True)

        with pytest.raises((PlacementError, InfraError), match="at least 1 are needed"):
            fleet.run(attempts(400, 4), limit=120, often=often)  # minutes of work, so that it can't end before


def test_a_node_that_arrives_late_is_used() -> None:
    with nodes(1) as (cluster, others):
        fleet = Fleet()
        fleet.begin(attempts(1000, 6))  # more than there is time for

        def workers() -> int:
            return len({e.worker for e in fleet.events if isinstance(e, WaveDone)})

        drive([fleet], lambda: workers() == 1)
        others.append(cluster.add_node(num_cpus=2))
        drive([fleet], lambda: workers() == 3)
        assert fleet.pool.pending()
        fleet.close()


def test_a_run_that_comes_later_gets_its_share_of_a_full_cluster() -> None:
    """By equal priority half of it; by three times the other's three quarters. Nobody is killed for it."""
    # a wave outlasts a look at the shares, so that whoever is to go is still there at the next one
    wishes: dict[str, Any] = {"wave": 16, "max_workers": 4, "heartbeat": 5.0, "deadline": 120.0, "worker_grace": 120.0}
    with nodes(4):
        for priority, shares in ((1.0, (2, 2)), (3.0, (1, 3))):
            one = Fleet(**wishes)
            one.begin(attempts(1000, 6))  # more than it can do in this test
            drive([one], lambda one=one: one.alive() == 4)
            two = Fleet(**wishes, priority=priority)
            two.begin(attempts(1000, 6))
            drive([one, two], lambda one=one, two=two, shares=shares: (one.alive(), two.alive()) == shares)
            looks = iter(range(60))
            drive([one, two], lambda looks=looks: next(looks, None) is None)
            assert held(one, two) == shares, "it did not stay so"
            left = [e for e in one.events if isinstance(e, ActorChanged) and e.state in {"leaving", "dead"}]
            assert [e.reason for e in left] == ["gives its place to another run"] * (4 - shares[0])
            assert one.pool.pending() and two.pool.pending()
            one.close()
            two.close()

"""Nodes that leave for good or arrive late, each time on a cluster of its own."""

import pytest
from fleet_cluster import Fleet, attempts, nodes

from seal_ray.errors import InfraError, PlacementError
from seal_ray.events import WaveDone

pytestmark = pytest.mark.slow


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
        work = attempts(10, 6)

        def often(done: int) -> None:
            if done > 8 and len(others) == 1:
                others.append(cluster.add_node(num_cpus=2))

        done = fleet.run(work, limit=90, often=often)
        assert len(done) == len(work)
        assert len({e.worker for e in fleet.events if isinstance(e, WaveDone)}) == 3
        fleet.close()

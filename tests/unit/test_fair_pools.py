"""Runs side by side on a full cluster: their pools and reservations are real, workers and Ray's grants are played."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster_table import ClusterTable
from fleet_simulation import Simulation, Table, many, section

from seal_ray.events import ActorChanged
from seal_ray.fleet.placement import Role
from seal_ray.fleet.reservations import YIELD_SECONDS, Reservations

WORKER = Role("worker", 1, 1, 0, 1, 1)


@dataclass
class OnTable(Simulation):
    """Workers that are started where a placement group was granted."""

    cluster: ClusterTable = field(default_factory=lambda: ClusterTable([]))
    priority: float = 1.0
    begins: float = 0.0  # in the time of the others

    def __post_init__(self) -> None:
        super().__post_init__()
        self.now = self.begins
        self.nodes = {"any": 1000}  # room is what the table grants
        self.reservations = Reservations(self.cluster, self.priority, self.clock)

    def want(self, count: int) -> int:
        return self.reservations.want(WORKER, count)

    def too_many(self) -> int:
        return self.reservations.too_many(WORKER)

    def start(self, name: str) -> None:
        assert self.reservations.take(WORKER, name)
        super().start(name)

    def kill(self, name: str) -> None:
        super().kill(name)
        self.reservations.give_back(name)


def a_run(cluster: ClusterTable, priority: float = 1.0, begins: float = 0.0) -> Table:
    simulation = OnTable(seconds=lambda _: 3.0, cluster=cluster, priority=priority, begins=begins)
    table = Table(simulation, section(), wave=2)
    table.pool.submit(many(tasks=60))  # more than it can do in this test
    table.pool.flush()
    return table


def drive(tables: list[Table], seconds: float) -> list[tuple[int, ...]]:
    """As so many drivers would, each in its turn and at one time; gives how many workers each had, look by look."""
    had = []
    for _ in range(int(seconds)):
        for table in tables:
            until = table.simulation.now + 1
            while table.simulation.now < until:
                assert not any(t.failure for t in table.pool.poll(until - table.simulation.now))
        had.append(tuple(sum(not p.dead for p in t.simulation.players.values()) for t in tables))
    return had


def told(table: Table, **what: Any) -> list[str]:
    return [e.worker for e in table.kinds(ActorChanged) if all(getattr(e, k) == v for k, v in what.items())]


@pytest.mark.parametrize(("priority", "shares"), [(1.0, (2, 2)), (3.0, (1, 3))])
def test_a_run_that_comes_later_gets_its_share_and_both_keep_theirs(priority: float, shares: tuple[int, int]) -> None:
    cluster = ClusterTable([{"CPU": 32, "GPU": 4}])
    one = a_run(cluster)
    assert drive([one], 30)[-1] == (4,)
    two = a_run(cluster, priority, begins=one.simulation.now)
    drive([one, two], 30)
    assert set(drive([one, two], 1.5 * YIELD_SECONDS)) == {shares}, "they did not stay so"
    assert len(told(one, state="leaving", reason="gives its place to another run")) == 4 - shares[0]
    assert not told(one, state="dead") and not told(two, state="dead") and not told(two, state="leaving")


def test_what_a_run_leaves_goes_to_the_one_that_stays() -> None:
    cluster = ClusterTable([{"CPU": 32, "GPU": 4}])
    one, two = a_run(cluster), a_run(cluster)
    drive([one, two], 60)
    two.pool.close()
    for name in list(two.simulation.players):
        two.simulation.kill(name)
    assert isinstance(two.simulation, OnTable)
    two.simulation.reservations.release(WORKER)
    assert drive([one], 1.5 * YIELD_SECONDS)[-1] == (4,)

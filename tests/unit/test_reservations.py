"""What runs ask of a cluster and give back, on a table of nodes that grants groups as Ray does."""

from dataclasses import dataclass
from typing import Any

import pytest
from cluster_table import ClusterTable, Group
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.fleet.fair_share import Claim, read_claim, shares, surplus
from seal_ray.fleet.placement import Role
from seal_ray.fleet.reservations import YIELD_SECONDS, Reservations

WORKER = Role("worker", 1, 1, 0, 1, 1)
SAMPLER = Role("sampler", 1, 1, 1, 1, 1)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0  # every look at it is a second later
        return self.now


def gpus(*counts: float) -> ClusterTable:
    return ClusterTable([{"CPU": 32, "GPU": count} for count in counts])


def run(table: ClusterTable, **more: Any) -> Reservations:
    return Reservations(table, clock=Clock(), **more)


def start(reservations: Reservations, role: Role, count: int, first: int = 1) -> list[str]:
    """Ask for so many in all, and start what is granted."""
    names = [f"{role.name}-{first + n}" for n in range(reservations.want(role, count))]
    for name in names:
        assert reservations.take(role, name)
    return names


def test_what_is_wanted_and_not_there_waits_where_an_autoscaler_sees_it() -> None:
    table = gpus(1)
    one = run(table)
    assert len(start(one, WORKER, 4)) == 1
    assert sum(g.places is None for g in table.groups) == 3
    table.nodes *= 4
    assert len(start(one, WORKER, 4, first=2)) == 3
    assert one.want(WORKER, 4) == 0 and len(table.groups) == 4


def test_what_is_not_wanted_any_more_is_given_back_those_that_wait_first() -> None:
    table = gpus(2)
    one = run(table)
    (first, second) = start(one, WORKER, 5)
    one.want(WORKER, 2)
    assert [g.places is not None for g in table.groups] == [True, True]
    one.give_back(first)
    one.give_back(second)
    assert not table.groups


def test_two_runs_never_hold_half_of_what_they_need_each() -> None:
    table = gpus(2, 2)
    one, two = run(table), run(table)
    for each in (one, two):
        each.reserve([(SAMPLER, 1), (WORKER, 2)], shared=False)
    assert one.reserved() and not two.reserved()
    one.let_go()
    assert two.reserved()


def test_roles_that_take_turns_stay_in_what_is_reserved() -> None:
    table = gpus(1)
    one = run(table)
    one.reserve([(WORKER, 1)], shared=True)
    assert one.reserved()
    (name,) = start(one, SAMPLER, 1)
    one.release(SAMPLER)
    one.reserve([(WORKER, 1)], shared=True)
    assert start(one, WORKER, 1) == ["worker-1"] and name == "sampler-1"
    assert len(table.made) == 1, "the GPU was let out of hand between two phases"


@pytest.mark.parametrize(("engine", "worker", "workers"), [(8, 1, 8), (4, 1, 8), (1, 0.5, 16), (1, 1, 8)])
def test_where_an_engine_had_several_gpus_each_of_them_has_its_workers(
    engine: float, worker: float, workers: int
) -> None:
    one = run(gpus(8))
    sampler, tries = Role("sampler", 1, 1, 1, 1, engine), Role("worker", 1, 1, 0, 1, worker)
    for turn in range(2):
        one.reserve([(sampler, 1)], shared=True)
        assert one.reserved() and start(one, sampler, 1, first=turn)
        one.release(sampler)
        one.reserve([(tries, 1)], shared=True)
        assert len(start(one, tries, workers, first=100 * turn)) == workers
        one.release(tries)


def test_an_engine_over_nodes_finds_every_gpu_free_of_the_role_that_had_its_turn_before() -> None:
    table = gpus(2, 2)
    one = run(table)
    across = Role("sampler", 1, 1, 1, 4, 4, across_nodes=True)
    one.reserve([(WORKER, 1)], shared=True)
    (name,) = start(one, WORKER, 1)
    one.give_back(name)
    one.reserve([(across, 1)], shared=True)
    assert one.reserved() and start(one, across, 1)
    one.release(across)
    one.reserve([(WORKER, 1)], shared=True)
    assert start(one, WORKER, 1, first=2)


def test_side_by_side_each_role_has_its_own_place() -> None:
    table = gpus(2)
    one = run(table)
    one.reserve([(SAMPLER, 1), (WORKER, 1)], shared=False)
    assert start(one, WORKER, 2) == ["worker-1"], "a worker took the sampler's place"
    assert start(one, SAMPLER, 1) == ["sampler-1"]


def test_a_lost_node_is_asked_for_again() -> None:
    table = gpus(1)
    one = run(table)
    one.reserve([(WORKER, 1)], shared=True)
    (name,) = start(one, WORKER, 1)
    table.lose(0)
    one.give_back(name)
    assert one.want(WORKER, 1) == 0
    assert [g.places for g in table.groups] == [None], "nothing waits that an autoscaler could see"
    table.nodes.append({"CPU": 32, "GPU": 1})
    assert one.want(WORKER, 1) == 1


def test_a_run_gives_back_what_is_above_its_share_and_does_not_take_it_again_at_once() -> None:
    table = gpus(4)
    one, two = run(table), run(table)
    names = start(one, WORKER, 8)
    assert len(names) == 4 and one.too_many(WORKER) == 0, "nobody else waits"
    two.want(WORKER, 8)
    assert one.too_many(WORKER) == 2 and two.too_many(WORKER) == 0
    one.want(WORKER, 2)  # what waited is given up
    for name in names[:2]:
        one.give_back(name)
    assert len(start(two, WORKER, 8)) == 2
    assert one.too_many(WORKER) == 0
    assert one.want(WORKER, 8) == 0 and sum(one.run in g.name for g in table.groups) == 2
    two.want(WORKER, 2)
    one.clock.now += YIELD_SECONDS  # type: ignore[attr-defined]
    one.want(WORKER, 8)
    assert sum(one.run in g.name for g in table.groups) == 8


def test_what_was_just_given_back_is_not_given_back_again() -> None:
    table, now = gpus(4), [0.0]
    one, two = Reservations(table, clock=lambda: now[0]), run(table)
    names = start(one, WORKER, 4)
    two.want(WORKER, 4)
    now[0] += 1
    assert one.too_many(WORKER) == 2
    one.give_back(names[0])
    one.give_back(names[1])
    assert one.too_many(WORKER) == 0, "what was seen a moment ago is not so any more"


def test_a_higher_priority_gets_more() -> None:
    table = gpus(4)
    one, two = run(table), run(table, priority=3.0)
    start(one, WORKER, 4)
    two.want(WORKER, 4)
    assert one.too_many(WORKER) == 3


def test_runs_on_gpus_and_runs_on_cpus_do_not_count_against_each_other() -> None:
    table = gpus(2)
    one, two = run(table), run(table)
    start(one, WORKER, 2)
    two.want(Role("worker", 1, 1, 0, 64), 1)
    assert one.too_many(WORKER) == 0


def test_a_group_that_is_not_ours_is_nobodys_claim() -> None:
    assert read_claim("somebody else's", True) is None
    claim = Claim("ab12", 2.0, 0.5, "GPU", False)
    assert read_claim(claim.name(7), False) == claim


amounts = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.5, 50), min_size=1)


@given(amounts, st.floats(0, 100), st.data())
def test_shares_waste_nothing_and_give_nobody_more_than_it_wants(
    wanted: dict[str, float], total: float, data: st.DataObject
) -> None:
    priorities = {run: data.draw(st.floats(0.5, 8)) for run in wanted}
    given_out = shares(wanted, priorities, total, {})
    assert all(given_out[run] <= wanted[run] + 1e-6 for run in wanted)
    assert sum(given_out.values()) == pytest.approx(min(total, sum(wanted.values())))
    short = [run for run in wanted if given_out[run] < wanted[run] - 1e-6]
    ratios = [given_out[run] / priorities[run] for run in short]
    assert not ratios or max(ratios) == pytest.approx(min(ratios))


@given(amounts, st.data())
def test_what_a_run_is_due_comes_before_what_is_divided(wanted: dict[str, float], data: st.DataObject) -> None:
    priorities = {run: data.draw(st.floats(0.5, 8)) for run in wanted}
    due = {run: data.draw(st.floats(0, units)) for run, units in wanted.items() if data.draw(st.booleans())}
    total = sum(due.values()) + data.draw(st.floats(0, 50))
    given_out = shares(wanted, priorities, total, due)
    assert all(given_out[run] >= units - 1e-6 for run, units in due.items())
    assert all(given_out[run] <= wanted[run] + 1e-6 for run in wanted)
    assert sum(given_out.values()) == pytest.approx(min(total, sum(wanted.values())))


def singles(run: str, granted: int, waiting: int = 0) -> list[Claim]:
    return [Claim(run, 1, 1, "GPU", n < granted) for n in range(granted + waiting)]


def test_nothing_is_too_much_while_nobody_waits() -> None:
    claims = [*singles("a", 9, waiting=9), *singles("b", 1)]
    assert surplus("a", "GPU", claims, 0) == 0
    assert surplus("a", "GPU", [*claims, *singles("b", 0, waiting=2)], 0) == 2


def test_a_run_is_due_the_group_without_which_it_can_not_begin_and_not_more() -> None:
    group = Claim("b", 1, 5, "GPU", False)
    assert surplus("a", "GPU", [*singles("a", 8), group], 0) == 5, "half of eight is four, and four are of no use"
    assert surplus("a", "GPU", [*singles("a", 6), group], 2) == 3, "two are free already"
    assert surplus("a", "GPU", [*singles("a", 4), Claim("b", 1, 2, "GPU", False)], 0) == 2


def test_nobody_gives_back_what_does_not_make_room_for_a_whole_group() -> None:
    a = [Claim("a", 1, 2, "GPU", True), *singles("a", 1)]
    assert surplus("a", "GPU", [*a, Claim("b", 1, 2, "GPU", False)], 0) == 0, "it can't do without two of its three"
    assert surplus("a", "GPU", [*a, Claim("b", 1, 2, "GPU", False)], 1) == 1, "with the free one they are two"
    four = [*singles("a", 4), Claim("b", 1, 4, "GPU", False)]
    assert surplus("a", "GPU", four, 0) == 0
    assert surplus("a", "GPU", [*four, *singles("c", 0, waiting=4)], 0) == 2, "another run can use a part"


def test_two_that_wait_are_not_both_promised_the_same_room() -> None:
    claims = [*singles("a", 6), Claim("b", 1, 3, "GPU", False), Claim("c", 1, 3, "GPU", False)]
    assert surplus("a", "GPU", claims, 0) == 3


def test_a_group_that_can_not_be_granted_beside_another_run_leaves_that_run_what_it_has() -> None:
    table = gpus(4)
    one, two = run(table), run(table)
    names = start(one, WORKER, 4)
    two.reserve([(SAMPLER, 1), (WORKER, 3)], shared=False)
    assert not two.reserved() and one.too_many(WORKER) == 0
    one.give_back(names[0])
    one.clock.now += 2 * YIELD_SECONDS  # type: ignore[attr-defined]
    assert len(start(one, WORKER, 4, first=5)) == 1, "a GPU lay idle for a group that needs them all"


def test_a_run_makes_room_for_the_group_with_which_another_begins_and_no_more() -> None:
    table = gpus(8)
    one, two = run(table), run(table)
    names = start(one, WORKER, 8)
    two.reserve([(SAMPLER, 1), (WORKER, 4)], shared=False)
    assert one.too_many(WORKER) == 5
    for name in names[:5]:
        one.give_back(name)
    assert two.reserved() and one.too_many(WORKER) == two.too_many(WORKER) == 0
    one.clock.now += YIELD_SECONDS  # type: ignore[attr-defined]
    one.want(WORKER, 8)
    assert one.too_many(WORKER) == two.too_many(WORKER) == 0, "what a run can't work without is no surplus"


def test_what_was_given_back_is_not_asked_for_again_before_it_is_granted_to_another() -> None:
    class Slow(ClusterTable):
        """Grants nothing for as long as nobody says so."""

        busy = True

        def _place(self, group: Group) -> list[int] | None:
            return None if self.busy else super()._place(group)

    table, now = Slow([{"CPU": 32, "GPU": 4}]), [0.0]
    one, two = Reservations(table, clock=lambda: now[0]), run(table)
    table.busy = False
    names = start(one, WORKER, 4)
    table.busy = True
    two.want(WORKER, 4)
    now[0] += 1
    assert one.too_many(WORKER) == 2
    for name in names[:2]:
        one.give_back(name)
        assert one.too_many(WORKER) == 0, "what is given back takes a moment to be free"
    now[0] += 60
    assert one.too_many(WORKER) == 0, "it gave its share away because that of the other was not granted yet"

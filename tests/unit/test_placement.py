"""Who runs where, as arithmetic over nodes that are plain data."""

from typing import Any

import pytest
from cluster_table import ClusterTable
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.config import PlacementSection
from seal_ray.errors import PlacementError
from seal_ray.events import WaitingFor
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.placement import ROLES, Placement, plan_placement, that_fit
from seal_ray.fleet.preflight import preflight, room_for_trainers
from seal_ray.fleet.reservations import Reservations


def gpu_nodes(*gpus: int, kind: str = "H100", cpus: float = 32) -> tuple[Node, ...]:
    return tuple(Node(f"{kind}{i}", f"{kind}{i}", cpus, g, kind, 512e9, cpus, g) for i, g in enumerate(gpus))


def cpu_nodes(*cpus: float, memory: float = 16e9) -> tuple[Node, ...]:
    return tuple(Node(f"c{i}", f"c{i}", c, memory=memory, free_cpus=c) for i, c in enumerate(cpus))


def plan(nodes: tuple[Node, ...], **section: Any) -> Placement:
    return plan_placement(PlacementSection(**section), nodes)


def missing(placement: Placement, nodes: tuple[Node, ...]) -> list[str]:
    """What the least of each phase lacks."""
    texts = [placement.lacks(phase, nodes) for phase in placement.phases()]
    return [text for text in texts if "find no place" in text]


def counts(placement: Placement) -> tuple[int, int, int]:
    return placement.sampler.count, placement.worker.count, placement.trainer.count


@pytest.mark.parametrize(
    ("nodes", "section", "mode", "expected"),
    [
        (gpu_nodes(1), {}, "colocated", (1, 1, 1)),
        (gpu_nodes(2), {}, "split", (1, 1, 2)),
        (gpu_nodes(8), {}, "split", (1, 7, 8)),
        (gpu_nodes(8, 8), {}, "split", (2, 14, 16)),
        (gpu_nodes(8), {"tensor_parallel": 4}, "split", (1, 4, 8)),
        (gpu_nodes(8), {"tensor_parallel": 8}, "colocated", (1, 8, 8)),
        (gpu_nodes(4), {"mode": "colocated"}, "colocated", (4, 4, 4)),
        (gpu_nodes(4), {"worker_gpus": 0.5}, "split", (1, 6, 4)),
        (gpu_nodes(4), {"max_workers": 2, "samplers": 2, "trainers": 3}, "split", (2, 2, 3)),
        (gpu_nodes(1), {"device": "cpu"}, "split", (2, 29, 1)),
        (cpu_nodes(2), {}, "split", (1, 1, 1)),
        (cpu_nodes(1), {}, "split", (1, 1, 1)),
        (cpu_nodes(2), {"mode": "colocated"}, "colocated", (1, 2, 1)),
        (cpu_nodes(2, memory=4e9), {}, "colocated", (1, 1, 1)),
        (cpu_nodes(8, memory=64e9), {}, "split", (1, 6, 1)),
        (cpu_nodes(8, memory=16e9), {}, "split", (1, 4, 1)),
        (cpu_nodes(2, 2, 2), {}, "split", (1, 4, 1)),
    ],
)
def test_a_plan_follows_from_the_nodes(
    nodes: tuple[Node, ...], section: dict[str, Any], mode: str, expected: tuple[int, int, int]
) -> None:
    placement = plan(nodes, **section)
    assert (placement.mode, counts(placement)) == (mode, expected)
    assert not missing(placement, nodes)


def test_on_one_gpu_the_roles_alternate() -> None:
    placement = plan(gpu_nodes(1))
    assert not placement.overlap
    assert placement.before("worker") == ("sampler", "trainer")
    assert placement.before("trainer") == ("sampler", "worker")


def test_samplers_and_workers_overlap_on_many_gpus_but_training_has_them_alone() -> None:
    placement = plan(gpu_nodes(8))
    assert placement.overlap and placement.before("worker") == () and placement.before("sampler") == ()
    assert placement.before("trainer") == ("sampler", "worker")


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_on_a_laptop_all_roles_fit_at_once(cpus: int) -> None:
    nodes = cpu_nodes(cpus)
    placement = plan(nodes)
    asked = sum(r.cpus * r.count for r in (placement.sampler, placement.worker, placement.trainer))
    assert asked <= cpus and placement.overlap
    assert placement.before("trainer") == ()


def test_roles_that_do_not_fit_at_once_on_cpu_make_room_for_training() -> None:
    placement = plan(cpu_nodes(2, 2), samplers=1, min_workers=3)
    assert placement.worker.count == 3
    together = sum(r.cpus * r.count for r in (placement.sampler, placement.worker, placement.trainer))
    assert together <= 4 or placement.before("trainer") == ("sampler", "worker")


def test_with_mixed_gpus_samplers_take_the_rare_type_and_trainers_the_frequent_one() -> None:
    nodes = gpu_nodes(8, kind="H100") + gpu_nodes(2, kind="A10")
    placement = plan(nodes)
    assert placement.sampler.gpu_type == "A10" and placement.trainer.gpu_type == "H100"
    assert placement.trainer.count == 8
    assert not missing(placement, nodes)


def test_trainers_are_no_more_than_have_something_to_do() -> None:
    assert plan_placement(PlacementSection(), gpu_nodes(8, 8), most_trainers=10).trainer.count == 10


def test_tensor_parallel_over_nodes_must_be_asked_for() -> None:
    nodes = gpu_nodes(4, 4)
    lacking = missing(plan(nodes, tensor_parallel=8, mode="colocated"), nodes)
    assert "across_nodes: true" in lacking[0] and "tensor_parallel 8 is over the 4 GPUs" in lacking[0]
    across = plan(nodes, tensor_parallel=8, mode="colocated", across_nodes=True)
    assert not missing(across, nodes)
    assert len(across.sampler.bundles(1)) == 8


def test_more_workers_than_gpus_is_refused_with_the_arithmetic() -> None:
    nodes = gpu_nodes(2)
    lacking = missing(plan(nodes, min_workers=4), nodes)
    assert "4 workers of 1 GPU and 1 CPU need 4 GPUs and 4 CPUs at once" in lacking[0]
    assert "2 of these pieces (1 GPUs and 1 CPUs on one node) find no place" in lacking[0]
    assert "the cluster has 1 node with 2 H100 GPUs and 32 CPUs (free: 2 GPUs, 32 CPUs)" in lacking[0]


@pytest.mark.parametrize(
    ("section", "lacking"),
    [
        ({"device": "gpu"}, "sampler"),
        ({"device": "gpu", "mode": "split", "samplers": 2}, "2 samplers of 1 GPU"),
        ({"device": "gpu", "trainers": 4}, "4 trainers of 1 GPU"),
        ({"worker_cpus": 9.0}, "worker of 9 CPU"),
        ({"trainer_cpus": 9.0, "mode": "colocated"}, "trainer of 9 CPU"),
    ],
)
def test_what_is_missing_is_named_for_each_role(section: dict[str, Any], lacking: str) -> None:
    nodes = cpu_nodes(4)
    assert any(lacking in text for text in missing(plan(nodes, **section), nodes))


def test_what_others_hold_is_not_counted_as_free() -> None:
    busy = (Node("a", "a", 8, 2, "A10", 64e9, free_cpus=8, free_gpus=0),)
    assert "free: 0 GPUs" in missing(plan(busy), busy)[0]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_preflight_asks_for_the_least_waits_and_plans_for_what_came() -> None:
    clock, events, table = Clock(), list[Any](), ClusterTable([])

    def nodes() -> tuple[Node, ...]:
        table.nodes = [{"CPU": 32, "GPU": 4}] if clock.now > 20 else []
        return gpu_nodes(4) if clock.now > 20 else ()

    asked = Reservations(table, clock=clock)
    placement = preflight(plan((), device="gpu"), asked, 60, events.append, nodes=nodes, clock=clock, sleep=clock.sleep)
    assert counts(placement) == (1, 3, 4) and placement.overlap
    assert asked.reserved() and len(table.groups) == 1, "the least is not kept for the first phase"
    assert {type(e) for e in events} == {WaitingFor} and "the cluster has no node" in events[0].missing


def test_preflight_fails_within_its_deadline_and_asks_for_nothing_any_more() -> None:
    clock, table = Clock(), ClusterTable([{"CPU": 4}])
    nodes = cpu_nodes(4)
    with pytest.raises(PlacementError, match=r"after 30 s the cluster still lacks.*1 node with no GPU and 4 CPUs"):
        preflight(
            plan(nodes, device="gpu"),
            Reservations(table, clock=clock),
            30,
            lambda e: None,
            nodes=lambda: nodes,
            clock=clock,
            sleep=clock.sleep,
        )
    assert clock.now < 32 and not table.groups


def test_what_others_wait_for_as_well_is_said() -> None:
    clock, table = Clock(), ClusterTable([{"CPU": 32, "GPU": 1}])
    Reservations(table).want(plan(gpu_nodes(1)).worker, 1)
    table.states()
    with pytest.raises(PlacementError, match=r"1 sampler of 1 GPU and 1 CPU need 1 GPUs.*others wait for as well"):
        nodes = gpu_nodes(1)
        asked = Reservations(table, clock=clock)
        preflight(plan(nodes), asked, 9, lambda e: None, nodes=lambda: nodes, clock=clock, sleep=clock.sleep)


nodes_strategy = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 64), st.sampled_from(["H100", "A10"])), min_size=1, max_size=5
)


@given(
    raw=nodes_strategy,
    mode=st.sampled_from(["auto", "split", "colocated"]),
    workers=st.integers(1, 4),
    share=st.sampled_from([1.0, 0.5, 0.25]),
    parallel=st.sampled_from([1, 2, 4]),
)
def test_no_plan_promises_what_the_cluster_can_not_hold(
    raw: list[tuple[int, int, str]], mode: Any, workers: int, share: float, parallel: int
) -> None:
    """If nothing is missing, the least of each phase really fits; and nobody gets more GPUs than there are."""
    nodes = tuple(Node(str(i), str(i), c, g, k if g else "", 64e9, c, g) for i, (g, c, k) in enumerate(raw))
    placement = plan(nodes, mode=mode, min_workers=workers, worker_gpus=share, tensor_parallel=parallel)
    if missing(placement, nodes):
        return
    total = sum(n.gpus for n in nodes)
    for phase in placement.phases():
        assert sum(r.gpus * r.least for r in phase) <= total + 1e-6
        assert sum(r.cpus * r.least for r in phase) <= sum(n.cpus for n in nodes) + 1e-6
    for name in ROLES:
        role = placement.role(name)
        if role.gpus <= max(n.gpus for n in nodes):
            assert that_fit(role, nodes) >= role.least


def test_trainers_take_what_is_granted_soon_and_the_least_is_waited_for() -> None:
    def room(section: dict[str, Any], table: ClusterTable, clock: Clock) -> int:
        def nodes() -> tuple[Node, ...]:
            if clock.now > 20:
                table.nodes = [{"CPU": 32, "GPU": 8}]
            return gpu_nodes(int(table.nodes[0]["GPU"]))

        placement = plan(gpu_nodes(8), **section)
        asked = Reservations(table, clock=clock)
        return room_for_trainers(placement, asked, lambda e: None, nodes=nodes, clock=clock, sleep=clock.sleep)

    six = ClusterTable([{"CPU": 32, "GPU": 6}])
    assert room({}, six, Clock()) == 6 and not six.groups
    assert room({"trainers": 8, "deadline": 30}, ClusterTable([{"CPU": 32, "GPU": 4}]), Clock()) == 8
    late = Clock()
    with pytest.raises(PlacementError, match="8 trainers of 1 GPU and 1 CPU need 8 GPUs"):
        room({"trainers": 8, "deadline": 10}, ClusterTable([{"CPU": 32, "GPU": 4}]), late)
    assert late.now < 20


def test_a_plan_that_changes_who_stands_where_is_another_layout() -> None:
    two = plan(cpu_nodes(1, 1))
    assert two.layout() == plan(cpu_nodes(1, 1)).layout()
    assert two.layout() != plan(cpu_nodes(1)).layout(), "what two nodes hold side by side one may not"
    assert plan(gpu_nodes(2)).layout() != plan(gpu_nodes(1)).layout()


def test_a_run_that_has_lost_every_gpu_waits_for_others_and_does_not_go_on_without() -> None:
    on_gpus = plan(gpu_nodes(2))  # placement.device is auto
    after = on_gpus.again(cpu_nodes(8))
    assert after.device == "gpu" and missing(after, cpu_nodes(8))
    assert on_gpus.again(gpu_nodes(2)) == on_gpus
    assert plan(cpu_nodes(8)).again(gpu_nodes(8), begun=False).device == "gpu", "an autoscaler brought it in time"


def test_everything_that_the_cluster_lacks_is_said_at_once() -> None:
    nodes, clock, table = cpu_nodes(4), Clock(), ClusterTable([{"CPU": 4}])
    asked = Reservations(table, clock=clock)
    placement = plan(nodes, device="gpu", samplers=3, trainers=5)
    with pytest.raises(
        PlacementError, match=r"(?s)(?=.*3 samplers of 1 GPU)(?=.*5 trainers of 1 GPU).*1 worker of 1 GPU"
    ):
        preflight(placement, asked, 3, lambda e: None, nodes=lambda: nodes, clock=clock, sleep=clock.sleep)

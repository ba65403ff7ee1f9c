"""Before anything heavy starts: the least that a run needs is asked for and waited for, with a deadline."""

import time
from collections.abc import Callable, Sequence

from seal_ray.errors import PlacementError
from seal_ray.events import Sink, WaitingFor
from seal_ray.fleet.cluster import Node, resources
from seal_ray.fleet.placement import Placement, Role, that_fit
from seal_ray.fleet.reservations import Reservations

QUIET_SECONDS = 2.0  # Ray takes a moment to grant what is free; only then is it a wait that people are told of
SOON_SECONDS = 5.0  # what was just given back is granted again within so long
NAP, LONG_NAP = 0.05, 0.5


def preflight(
    placement: Placement,
    reservations: Reservations,
    deadline: float,
    sink: Sink,
    *,
    nodes: Callable[[], Sequence[Node]] = resources,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Placement:
    """The plan for what the cluster has once every phase's least was granted; the largest of them stays reserved.

    An autoscaler brings nodes for what waits. Raises `PlacementError` with the arithmetic.
    """
    until = clock() + deadline
    for phase in placement.phases_by_size():
        left = max(0.0, until - clock())
        try:
            wait_for_least(placement, phase, reservations, left, sink, nodes=nodes, clock=clock, sleep=sleep)
        except PlacementError as error:
            others = [
                placement.lacks(p, nodes()) for p in placement.phases() if p != phase and not placement.fits(p, nodes())
            ]
            raise PlacementError("; ".join([error.message, *others]), hint=error.hint) from None
    return placement.again(nodes(), begun=False)


def wait_for_least(
    placement: Placement,
    roles: Sequence[Role],
    reservations: Reservations,
    deadline: float,
    sink: Sink,
    *,
    nodes: Callable[[], Sequence[Node]] = resources,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Reserve the least of these roles at once, and come back when it is granted."""
    reservations.reserve([(role, role.least) for role in roles], shared=placement.mode == "colocated")
    began, told = clock(), ""
    while not reservations.reserved():
        waited = clock() - began
        quiet = waited < min(QUIET_SECONDS, deadline / 2)
        missing = "" if quiet else placement.lacks(roles, nodes())
        if waited >= deadline:
            reservations.let_go()  # what is asked for and not taken back brings nodes that nobody uses
            raise PlacementError(
                f"placement: after {waited:.0f} s the cluster still lacks what the run needs: {missing}",
                hint="add nodes, lower the numbers under placement, or use placement.mode: colocated",
            )
        if missing and told != missing:
            told = missing
            sink(WaitingFor("nodes", missing, round(deadline - waited, 1)))
        sleep(min(LONG_NAP if told else NAP, max(0.02, deadline - waited)))


def room_for_trainers(
    placement: Placement,
    reservations: Reservations,
    sink: Sink,
    *,
    nodes: Callable[[], Sequence[Node]] = resources,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """How many trainers there is room for: the plan's number if that is granted soon, else what is free.

    The least is waited for. What was asked for is given back at the end: Ray Train makes a placement group of its own.
    """
    role = placement.trainer
    wait = {"nodes": nodes, "clock": clock, "sleep": sleep}
    try:
        for count in (role.count, 0):
            count = count or min(role.count, that_fit(role, nodes()))
            if count <= role.least:
                break
            reservations.reserve([(role, count)], shared=False)
            until = clock() + SOON_SECONDS
            while not reservations.reserved() and clock() < until:
                sleep(NAP)
            if reservations.reserved():
                return count
            reservations.let_go()
        wait_for_least(placement, [role], reservations, placement.section.deadline, sink, **wait)
        return role.least
    finally:
        reservations.let_go()

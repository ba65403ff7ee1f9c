"""When a run worked, on what, and what its actors did, from its events alone."""

from typing import Any

from made_events import make

from seal_ray.events import (
    ActorChanged,
    EditsSampled,
    Event,
    LeaseChanged,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    RunStarted,
    WaveDone,
)
from seal_ray.observe.timeline import timeline


def at(second: float, number: int, kind: type[Event], /, **fields: Any) -> Event:
    return make(kind, number, 1000.0 + second, **fields)


def spans(found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {s["phase"]: (s["from"], s["to"]) for s in found["spans"]}


def test_the_pause_between_two_sittings_is_no_time_of_the_run() -> None:
    found = timeline(
        [
            at(0, 0, RunStarted),
            at(1, 1, PhaseStarted, phase="sampling"),
            at(5, 1, EditsSampled, task="a"),
            at(6, 1, RunEnded, outcome="Interrupted"),
            at(5000, 0, RunStarted, resumed=True),
            at(5001, 1, WaveDone, worker="worker-1", started=6000.5, seconds=3.0, candidates=2),
            at(5004, 1, RunEnded, outcome="done"),
        ]
    )
    assert found["seconds"] == 10.0
    assert [(s["at"], s["seconds"], s["outcome"]) for s in found["sittings"]] == [
        (0.0, 6.0, "Interrupted"),
        (6.0, 4.0, "done"),
    ]
    assert spans(found) == {"sampling": (1.0, 5.0), "trials": (6.5, 9.5)}


def test_what_the_gate_tries_is_time_of_the_gate() -> None:
    found = timeline(
        [
            at(0, 0, RunStarted),
            at(1, 1, PhaseStarted, phase="gate"),
            at(1, 1, PhaseStarted, phase="sampling"),
            at(3, 1, EditsSampled, task="v"),
            at(6, 1, WaveDone, worker="worker-1", started=1004.0, seconds=2.0),
            at(7, 1, PhaseEnded, phase="gate"),
        ]
    )
    assert spans(found) == {"gate": (1.0, 7.0)}


def test_actors_tell_how_long_they_were_there_and_at_work_and_leases_what_was_held() -> None:
    found = timeline(
        [
            at(0, 0, RunStarted),
            at(
                0,
                1,
                LeaseChanged,
                role="worker",
                count=2,
                gpus=0.5,
                state="acquired",
            ),
            at(0, 1, ActorChanged, role="worker", worker="worker-1", state="healthy", alive=0.0, busy=0.0, node="n"),
            at(8, 1, WaveDone, worker="worker-1", started=1002.0, seconds=6.0, candidates=4, occupied=0.5),
            at(10, 1, ActorChanged, role="worker", worker="worker-1", state="dead", alive=10.0, busy=6.0),
            at(10, 1, LeaseChanged, role="worker", count=0, state="released"),
            at(
                11,
                1,
                LeaseChanged,
                role="trainer",
                count=2,
                gpus=1.0,
                state="acquired",
            ),
            at(12, 1, ActorChanged, role="trainer", worker="trainer-0", state="healthy"),
            at(15, 1, LeaseChanged, role="trainer", count=0, state="released"),
            at(40, 1, RunEnded),
        ]
    )
    worker, trainer = found["actors"]
    assert (worker["alive"], worker["busy"], worker["node"], worker["waves"]) == (10.0, 6.0, "n", 1)
    assert worker["blocks"] == [{"at": 2.0, "seconds": 6.0, "candidates": 4.0, "occupied": 0.5}]
    assert (trainer["from"], trainer["to"], trainer["busy"]) == (12.0, 15.0, None)
    held = {lease["role"]: (lease["seconds"], lease["gpus"], lease["actor_seconds"]) for lease in found["leases"]}
    assert held == {"worker": (10.0, 0.5, 10.0), "trainer": (4.0, 1.0, 8.0)}


def test_roles_that_take_turns_are_counted_for_their_turns_alone() -> None:
    """Each turn's actors begin again at number 1."""
    told = [at(0, 0, RunStarted)]
    for number in (1, 2, 3):
        for role, begin in (("sampler", 200 * number - 200), ("worker", 200 * number - 100)):
            name, end = f"{role}-1", begin + 100
            told += [
                at(begin, number, LeaseChanged, role=role, count=1, gpus=1.0, state="acquired"),
                at(begin, number, ActorChanged, role=role, worker=name, state="healthy", node="n"),
                at(end, number, ActorChanged, role=role, worker=name, state="released", alive=100.0, busy=80.0),
                at(end, number, LeaseChanged, role=role, count=0, state="released"),
            ]
    found = timeline([*told, at(600, 3, RunEnded)])
    held = {lease["role"]: (lease["seconds"], lease["actor_seconds"]) for lease in found["leases"]}
    assert held == {"sampler": (300.0, 300.0), "worker": (300.0, 300.0)}
    of_workers = [(a["from"], a["to"], a["alive"], a["busy"]) for a in found["actors"] if a["role"] == "worker"]
    assert of_workers == [(begin, begin + 100, 100.0, 80.0) for begin in (100.0, 300.0, 500.0)]


def test_what_a_worker_did_is_told_after_its_death_and_is_no_other_workers() -> None:
    found = timeline(
        [
            at(0, 0, RunStarted),
            at(1, 1, ActorChanged, role="worker", worker="worker-1", state="healthy"),
            at(9, 1, ActorChanged, role="worker", worker="worker-1", state="dead", alive=8.0, busy=5.0),
            at(9, 1, WaveDone, worker="worker-1", started=1004.0, seconds=5.0),
            at(60, 1, RunEnded),
        ]
    )
    (worker,) = found["actors"]
    assert (worker["alive"], worker["busy"], worker["waves"], worker["state"]) == (8.0, 5.0, 1, "dead")


def test_what_was_held_before_the_only_worker_was_replaced_counts() -> None:
    found = timeline(
        [
            at(0, 0, RunStarted),
            at(0, 1, LeaseChanged, role="worker", count=1, state="acquired"),
            at(30, 1, LeaseChanged, role="worker", count=1, state="acquired"),
            at(50, 1, LeaseChanged, role="worker", count=0, state="released"),
            at(60, 1, RunEnded),
        ]
    )
    (lease,) = found["leases"]
    assert (lease["seconds"], lease["count"]) == (50.0, 1)

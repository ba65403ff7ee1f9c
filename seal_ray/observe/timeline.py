"""Where a run's time went, from its events: phases, waves and actors on one axis, without the pauses between sittings.

A sitting is one driver's time with the run; a run that was stopped and went on has several. Times are seconds of work
since the run began.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.events import (
    ASIDE,
    ActorChanged,
    EditsSampled,
    Event,
    Graded,
    LeaseChanged,
    PhaseEnded,
    PhaseStarted,
    RoundCommitted,
    RunEnded,
    RunStarted,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaveDone,
)
from seal_ray.records import Json

GONE = {"dead", "released"}
MOST_BLOCKS = 3000  # waves that are told one by one; more are joined with their neighbours
ROLES = ("sampler", "worker", "trainer")


@dataclass
class Actor:
    """A sampler, a worker or a trainer, from its start to its end or that of the sitting."""

    name: str
    role: str
    sitting: int
    born: float
    seen: float
    node: str = ""
    state: str = ""
    reason: str = ""
    alive: float = 0.0  # seconds, as it was last told
    busy: float = 0.0
    waves: list[dict[str, float]] = field(default_factory=list)


@dataclass
class _Sitting:
    number: int
    began: float
    offset: float  # seconds of work before it
    last: float
    outcome: str = ""
    resumed: bool = False
    held: dict[str, LeaseChanged] = field(default_factory=dict)  # by role


class Timeline:
    """Takes events in order; `done` gives plain data."""

    def __init__(self) -> None:
        self._sittings: list[_Sitting] = []
        self._actors: dict[str, Actor] = {}  # of this sitting, the last one of each name
        self._were: list[Actor] = []  # all that there were, in the order of their coming
        self._open: dict[str, list[float]] = {}  # phase -> when it began, and the last that was heard of it
        self._spans: list[dict[str, Json]] = []
        self._leases: dict[str, dict[str, Any]] = {}
        self._round = 0

    def take(self, event: Event) -> None:
        if isinstance(event, RunStarted) or not self._sittings:
            self._begin(event, resumed=isinstance(event, RunStarted) and event.resumed)
        sitting = self._sittings[-1]
        sitting.last = max(sitting.last, event.time)
        if event.round and event.round != self._round:
            self._close_all()
            self._round = event.round
        match event:
            case PhaseStarted():
                self._open.setdefault(event.phase, [self._at(event.time)] * 2)
            case PhaseEnded() if event.phase == "update" or event.phase in ASIDE:
                self._reach(event.phase, event.time)
                self._close(event.phase)
            case UpdateStep():
                self._reach("update", event.time)
            case WaveDone():
                self._wave(event)
            case ActorChanged():
                self._actor_changed(event)
            case LeaseChanged():
                self._lease(event)
            case RoundCommitted():
                self._close_all()
            case RunEnded():
                sitting.outcome = event.outcome
                self._end_sitting()
            case _ if self._aside():
                pass  # what it asks for is its own time
            case EditsSampled():
                self._reach("sampling", event.time)
            case TrialDone() | TrialFailed():
                self._reach("trials", event.time)
            case Graded():
                self._reach("grading", event.time - event.seconds)
                self._reach("grading", event.time)

    def done(self) -> dict[str, Json]:
        self._end_sitting()
        return {
            "seconds": _short(self._sittings[-1].offset + self._length(self._sittings[-1]) if self._sittings else 0),
            "sittings": [
                {
                    "began": s.began,
                    "at": _short(s.offset),
                    "seconds": _short(self._length(s)),
                    "outcome": s.outcome,
                    "resumed": s.resumed,
                }
                for s in self._sittings
            ],
            "spans": sorted(self._spans, key=lambda s: (s["from"], s["phase"])),
            "actors": [self._told(a, many=len(self._sittings) > 1) for a in self._were],
            "leases": [
                {"role": role, **self._leases[role], "actor_seconds": _short(self._actor_seconds(role))}
                for role in ROLES
                if role in self._leases
            ],
        }

    # sittings and phases

    def _begin(self, event: Event, *, resumed: bool) -> None:
        self._end_sitting()
        before = self._sittings[-1] if self._sittings else None
        offset = before.offset + self._length(before) if before else 0.0
        self._sittings.append(_Sitting(len(self._sittings), event.time, offset, event.time, resumed=resumed))

    def _end_sitting(self) -> None:
        self._close_all()
        self._actors.clear()
        if self._sittings:
            for role in list(self._sittings[-1].held):
                self._give_back(role, self._sittings[-1].last)

    def _length(self, sitting: _Sitting) -> float:
        return sitting.last - sitting.began

    def _aside(self) -> str | None:
        """The phase that tries edits of its own, if one is on."""
        return next((phase for phase in self._open if phase in ASIDE), None)

    def _at(self, time: float) -> float:
        sitting = self._sittings[-1]
        return sitting.offset + max(0.0, time - sitting.began)

    def _reach(self, phase: str, time: float) -> None:
        at = self._at(time)
        span = self._open.setdefault(phase, [at, at])
        span[0], span[1] = min(span[0], at), max(span[1], at)

    def _close(self, phase: str) -> None:
        began, ended = self._open.pop(phase)
        if ended > began:
            self._spans.append({"round": self._round, "phase": phase, "from": _short(began), "to": _short(ended)})

    def _close_all(self) -> None:
        for phase in list(self._open):
            self._close(phase)

    # who was at work

    def _actor(self, name: str, role: str, time: float) -> Actor:
        if name not in self._actors:
            self._actors[name] = Actor(name, role, self._sittings[-1].number, time, time)
            self._were.append(self._actors[name])
        actor = self._actors[name]
        actor.seen = max(actor.seen, time)
        return actor

    def _actor_changed(self, event: ActorChanged) -> None:
        before = self._actors.get(event.worker)
        if before and before.state in GONE:  # another one with its name; what came in till now was still of the first
            del self._actors[event.worker]
        actor = self._actor(event.worker, event.role, event.time)
        actor.state, actor.reason = event.state, event.reason
        actor.node = event.node or actor.node
        actor.alive, actor.busy = event.alive or actor.alive, event.busy or actor.busy

    def _wave(self, event: WaveDone) -> None:
        ended = event.started + event.seconds
        aside = self._aside()
        if not aside:
            self._reach("trials", event.started)
        self._reach(aside or "trials", ended)
        actor = self._actor(event.worker, "worker", event.time)
        actor.node = event.node or actor.node
        actor.born = min(actor.born, event.started)
        actor.waves.append(
            {
                "at": self._at(event.started),
                "seconds": event.seconds,
                "candidates": event.candidates,
                "occupied": event.occupied,
            }
        )

    def _told(self, actor: Actor, *, many: bool) -> dict[str, Json]:
        sitting = self._sittings[actor.sitting]
        until = actor.seen if actor.state in GONE else sitting.last
        alive = max(actor.alive, until - actor.born)
        worked = sum(w["seconds"] for w in actor.waves)
        known = actor.role != "trainer"  # a trainer's lease is its work: nobody tells seconds of it
        each = max(1, MOST_BLOCKS // len(self._were))
        return {
            "name": f"{actor.name} (sitting {actor.sitting + 1})" if many else actor.name,
            "role": actor.role,
            "node": actor.node,
            "state": actor.state,
            "reason": actor.reason,
            "alive": _short(alive),
            "busy": _short(max(actor.busy, worked)) if known else None,
            "from": _short(sitting.offset + actor.born - sitting.began),
            "to": _short(sitting.offset + until - sitting.began),
            "waves": len(actor.waves),
            "blocks": [{k: _short(v) for k, v in b.items()} for b in _joined(actor.waves, each)],
        }

    # what was held

    def _lease(self, event: LeaseChanged) -> None:
        if event.state == "acquired":
            self._give_back(event.role, event.time)  # told again where the only one was lost and replaced
            self._sittings[-1].held[event.role] = event
            return
        self._give_back(event.role, event.time)
        for actor in [a for a in self._actors.values() if a.role == event.role == "trainer"]:
            actor.state, actor.seen = "released", event.time  # a group that stands for as long as its lease
            del self._actors[actor.name]

    def _give_back(self, role: str, time: float) -> None:
        lease = self._sittings[-1].held.pop(role, None)
        if lease is None or not lease.count:
            return
        total = self._leases.setdefault(role, {"seconds": 0.0, "resources": "", "gpus": 0.0, "count": 0})
        total["seconds"] = _short(total["seconds"] + time - lease.time)
        total["resources"], total["count"] = lease.resources, max(total["count"], lease.count)
        total["gpus"] = lease.gpus

    def _actor_seconds(self, role: str) -> float:
        if role == "trainer":
            return self._leases[role]["seconds"] * self._leases[role]["count"]
        return sum(self._told(a, many=False)["alive"] for a in self._were if a.role == role)


def timeline(events: Iterable[Event]) -> dict[str, Json]:
    """The timeline of a whole stream."""
    made = Timeline()
    for event in events:
        made.take(event)
    return made.done()


def _joined(waves: Sequence[dict[str, float]], most: int) -> list[dict[str, float]]:
    """At most that many blocks, each of a run of neighbours."""
    step = -(-len(waves) // most) if waves else 1
    out = []
    for start in range(0, len(waves), step):
        group = sorted(waves[start : start + step], key=lambda w: w["at"])
        seconds = sum(w["seconds"] for w in group)
        out.append(
            {
                "at": group[0]["at"],
                "seconds": group[-1]["at"] + group[-1]["seconds"] - group[0]["at"] if step > 1 else seconds,
                "candidates": sum(w["candidates"] for w in group),
                "occupied": sum(w["occupied"] * w["seconds"] for w in group) / seconds if seconds else 0.0,
            }
        )
    return out


def _short(value: float) -> float:
    return round(float(value), 3)

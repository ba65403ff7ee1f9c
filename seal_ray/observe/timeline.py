"""Where a run's time went, from its events: phases, waves and actors on one axis, without the pauses between sittings.

A sitting is one driver's time with the run; a run that was stopped and went on has several. Times are seconds of work
since the run began.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.records import Event, Json

GONE = {"gone", "dead", "lost", "left"}
MOST_BLOCKS = 3000  # waves that are told one by one; more are joined with their neighbours
ROLES = ("sampler", "worker", "trainer")


@dataclass
class Actor:
    """A sampler, a worker or a trainer in one sitting."""

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
    held: dict[str, tuple[float, int, str]] = field(default_factory=dict)  # role -> since, how many, of what


class Timeline:
    """Takes events in order; `done` gives plain data."""

    def __init__(self) -> None:
        self._sittings: list[_Sitting] = []
        self._actors: dict[str, Actor] = {}  # of this sitting
        self._were: list[Actor] = []  # all that there were, in the order of their coming
        self._open: dict[str, list[float]] = {}  # phase -> when it began, and the last that was heard of it
        self._spans: list[dict[str, Json]] = []
        self._leases: dict[str, dict[str, Any]] = {}
        self._round = 0

    def take(self, event: Event) -> None:
        data = dict(event.data)
        if event.kind == "run_started" or not self._sittings:
            self._begin(event, resumed=bool(data.get("resumed")))
        sitting = self._sittings[-1]
        sitting.last = max(sitting.last, event.time)
        if event.round and event.round != self._round:
            self._close_all()
            self._round = event.round
        match event.kind:
            case "phase_started":
                self._open.setdefault(str(data.get("phase")), [self._at(event.time)] * 2)
            case "phase_ended" if data.get("phase") in ("update", "gate"):
                self._reach(str(data["phase"]), event.time)
                self._close(str(data["phase"]))
            case "sampled" if "gate" not in self._open:
                self._reach("sampling", event.time - float(data.get("seconds") or 0))
                self._reach("sampling", event.time)
            case "graded" if "gate" not in self._open:
                self._reach("grading", event.time - float(data.get("seconds") or 0))
                self._reach("grading", event.time)
            case "trial" | "trial_failed" if "gate" not in self._open:
                self._reach("trials", event.time)
            case "update_step":
                self._reach("update", event.time)
            case "wave":
                self._wave(event, data)
            case "worker":
                self._worker(event, data)
            case "lease":
                self._lease(event, data)
            case "round_committed":
                self._close_all()
            case "run_ended":
                sitting.outcome = str(data.get("outcome", ""))
                self._end_sitting()

    def done(self) -> dict[str, Json]:
        self._end_sitting()
        gpus = {role: found["gpus"] for role, found in self._leases.items()}
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
                {"role": role, **{k: v for k, v in self._leases[role].items() if k != "since"}}
                | {"actor_seconds": _short(self._actor_seconds(role)), "gpus": gpus[role]}
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

    def _actor(self, name: str, time: float) -> Actor:
        if name not in self._actors:
            role = next((r for r in ROLES if name.startswith(r)), "worker")
            self._actors[name] = Actor(name, role, self._sittings[-1].number, time, time)
            self._were.append(self._actors[name])
        actor = self._actors[name]
        actor.seen = max(actor.seen, time)
        return actor

    def _worker(self, event: Event, data: dict[str, Any]) -> None:
        actor = self._actor(str(data.get("worker", "?")), event.time)
        actor.state, actor.reason = str(data.get("state", "")), str(data.get("reason", ""))
        actor.node = str(data.get("node") or actor.node)
        actor.alive = float(data.get("alive") or actor.alive)
        actor.busy = float(data.get("busy") or actor.busy)

    def _wave(self, event: Event, data: dict[str, Any]) -> None:
        seconds = float(data.get("seconds") or 0)
        began = float(data.get("started") or event.time - seconds)
        if "gate" not in self._open:
            self._reach("trials", began)
            self._reach("trials", began + seconds)
        else:
            self._reach("gate", began + seconds)
        count = data.get("candidates")
        actor = self._actor(str(data.get("worker", "?")), event.time)
        actor.node = actor.node or str(data.get("node") or "")
        actor.born = min(actor.born, began)
        occupied = data.get("occupied")
        actor.waves.append(
            {
                "at": self._at(began),
                "seconds": seconds,
                "candidates": len(count) if isinstance(count, list) else int(count or 0),
                "occupied": float(occupied) if occupied is not None else -1.0,
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

    def _lease(self, event: Event, data: dict[str, Any]) -> None:
        role = str(data.get("role", ""))
        if data.get("state") == "acquired":
            self._sittings[-1].held[role] = (event.time, int(data.get("count") or 0), str(data.get("resources", "")))
        else:
            self._give_back(role, event.time)
            for actor in [a for a in self._actors.values() if a.role == role == "trainer"]:
                actor.state, actor.seen = "gone", event.time  # nobody tells of a trainer's end but its lease
                del self._actors[actor.name]

    def _give_back(self, role: str, time: float) -> None:
        since, count, resources = self._sittings[-1].held.pop(role, (time, 0, ""))
        if not count:
            return
        each = re.match(r"\d+ \S+ of ([\d.]+).* GPU and ", resources)
        found = self._leases.setdefault(role, {"seconds": 0.0, "resources": "", "gpus": 0.0, "count": 0})
        found["seconds"] = _short(found["seconds"] + time - since)
        found["resources"], found["count"] = resources, max(found["count"], count)
        found["gpus"] = float(each.group(1)) if each else 0.0

    def _actor_seconds(self, role: str) -> float:
        if role == "trainer":  # a group that stands for as long as its lease
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
        told = [w for w in group if w["occupied"] >= 0]
        weight = sum(w["seconds"] for w in told)
        out.append(
            {
                "at": group[0]["at"],
                "seconds": group[-1]["at"] + group[-1]["seconds"] - group[0]["at"] if step > 1 else seconds,
                "candidates": sum(w["candidates"] for w in group),
                "occupied": sum(w["occupied"] * w["seconds"] for w in told) / weight if weight else -1.0,
            }
        )
    return out


def _short(value: float) -> float:
    return round(float(value), 3)

"""Events as they stand in the stream: an object with its kind, its own fields under `data`, its round and its time.

Readers take what an older or newer version wrote: what they do not know becomes an `UnknownEvent`, which nobody may
write.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from seal_ray import events
from seal_ray.events import Event, UnknownEvent
from seal_ray.records import Json, decode

KINDS: dict[str, type[Event]] = {
    "run_started": events.RunStarted,
    "run_ended": events.RunEnded,
    "round_started": events.RoundStarted,
    "round_resumed": events.RoundResumed,
    "round_committed": events.RoundCommitted,
    "phase_started": events.PhaseStarted,
    "phase_ended": events.PhaseEnded,
    "sampled": events.EditsSampled,
    "trial": events.TrialDone,
    "trial_failed": events.TrialFailed,
    "trial_again": events.TrialAgain,
    "graded": events.Graded,
    "repeats": events.RepeatsAsked,
    "probe_asked": events.ProbeAsked,
    "dropped": events.EditsDropped,
    "rewards": events.RewardsMade,
    "selected": events.EditsSelected,
    "update_step": events.UpdateStep,
    "update_validated": events.UpdateValidated,
    "update": events.UpdateDone,
    "gate": events.GateDecided,
    "held_out": events.HeldOutScored,
    "wave": events.WaveDone,
    "worker": events.ActorChanged,
    "lease": events.LeaseChanged,
    "waiting": events.WaitingFor,
    "budget": events.BudgetReached,
    "storage": events.StoreRetried,
    "warning": events.Warned,
}
LARGEST = 1e18
LATEST = 1e12  # of rounds, and of seconds since 1970
_NAMES = {cls: kind for kind, cls in KINDS.items()}
_OWN = {cls: tuple(f.name for f in dataclasses.fields(cls) if f.name not in ("round", "time")) for cls in _NAMES}


def kind_of(event: Event) -> str:
    return event.kind if isinstance(event, UnknownEvent) else _NAMES[type(event)]


def fields_of(event: Event) -> dict[str, Json]:
    """What is the event's own, as JSON. A number that JSON lacks is null: an event must never stop a run."""
    values = vars(event)
    if isinstance(event, UnknownEvent):
        return dict(event.data)
    return {name: _plain(values[name]) for name in _OWN[type(event)]}


def encode_event(event: Event) -> Json:
    """The event as it stands in the stream."""
    if isinstance(event, UnknownEvent):
        raise TypeError(f"an event of the unknown kind {event.kind!r} can't be written")
    return {"kind": kind_of(event), "data": fields_of(event), "round": event.round, "time": event.time}


def decode_event(line: Json) -> Event:
    """The event that stands in the stream like this, whoever wrote it: nothing rests on events, so none is an error."""
    line = line if isinstance(line, dict) else {}
    kind, own = str(line.get("kind", "")), line.get("data")
    own = own if isinstance(own, dict) else {}
    when = {"round": _number(line.get("round"), int), "time": _number(line.get("time"), float)}
    cls = KINDS.get(kind)
    try:
        if cls and _is_in_bounds(own):
            told = _OLDER.get(kind, dict)(own)
            return decode(cls, {name: told[name] for name in _OWN[cls] if name in told} | when)
    except (ValueError, TypeError, RecursionError):  # a newer version tells it in another way, or somebody who is none
        pass
    return UnknownEvent(kind, own, **when)


def _is_in_bounds(value: Json) -> bool:
    """Whether every number in it is one that sums of many still are."""
    if isinstance(value, dict):
        return all(map(_is_in_bounds, value.values()))
    if isinstance(value, list):
        return all(map(_is_in_bounds, value))
    return not isinstance(value, (int, float)) or abs(value) < LARGEST


def _number(value: Json, kind: type[int] | type[float]) -> Any:
    """When something happened; nothing where that does not say."""
    sound = type(value) in (int, float) and abs(value) < LATEST
    return kind(value) if sound else kind(0)


def _plain(value: Any) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


# what older versions wrote


def _older_trial(own: dict[str, Json]) -> dict[str, Json]:
    return {"arm": own.get("kind")} | own


def _older_failed(own: dict[str, Json]) -> dict[str, Json]:
    return {"arm": None, "failure": own.get("kind")} | own


def _older_actor(own: dict[str, Json]) -> dict[str, Json]:
    role = str(own.get("worker", "")).partition("-")[0]
    state = {"up": "healthy"}.get(own.get("state", ""), own.get("state"))
    if state == "dead" and own.get("reason") == "not needed any more":
        state = "released"
    return {"role": role} | own | {"state": state}


def _older_lease(own: dict[str, Json]) -> dict[str, Json]:
    if "gpus" in own:
        return own
    each = re.match(r"\d+ \S+ of ([\d.]+).* GPU and ", str(own.get("resources", "")))
    return own | {"gpus": float(each.group(1)) if each else 0.0}


def _older_end(own: dict[str, Json]) -> dict[str, Json]:
    return own | {"reason": own.get("reason") or ""}


_OLDER: dict[str, Callable[[dict[str, Json]], dict[str, Json]]] = {
    "run_ended": _older_end,
    "trial": _older_trial,
    "trial_failed": _older_failed,
    "worker": _older_actor,
    "lease": _older_lease,
}

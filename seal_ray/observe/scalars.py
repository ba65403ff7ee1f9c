"""Events as named numbers over steps: what every experiment tracker is given, so that all of them agree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seal_ray.records import Event, Json

# events whose numbers belong to a round
BY_ROUND = {"rewards": "", "selected": "selected/", "update": "update/", "gate": "gate/", "round_committed": "round/"}


@dataclass(frozen=True)
class Scalar:
    name: str
    value: float
    step: int


def scalars(event: Event) -> list[Scalar]:
    """The numbers of an event. Update steps are counted on over the rounds, from what the event itself says, so that
    a resumed run continues the same curve."""
    data = event.data
    if event.kind == "update_step":
        step = max(0, event.round - 1) * int(data.get("steps") or 0) + int(data.get("step") or 0)
        found = {k: v for k, v in data.items() if k not in {"step", "steps"}}
        return [Scalar(f"update/{n}", v, step) for n, v in flat(found)]
    if event.kind == "phase_ended":
        seconds = float(data.get("seconds") or 0)
        return [Scalar(f"seconds/{data.get('phase')}", seconds, event.round)]
    if event.kind in BY_ROUND:
        return [Scalar(BY_ROUND[event.kind] + n, v, event.round) for n, v in flat(data)]
    return []


def flat(data: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a tree, by path. An estimate gives its mean under its own name, and its error beside it."""
    if {"mean", "error"} <= data.keys():
        yield prefix.rstrip("/"), float(data["mean"])
        yield prefix.rstrip("/") + "_error", float(data["error"])
        return
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)

"""Events as named numbers over steps: what every experiment tracker is given, so that all of them agree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from seal_ray.records import Event, Json

# events whose numbers belong to a round
BY_ROUND = {"rewards": "", "selected": "selected/", "update": "update/", "gate": "gate/", "round_committed": "round/"}


@dataclass(frozen=True)
class Scalar:
    name: str
    value: float
    step: int


@dataclass
class Scalars:
    """Keeps the one thing that no event says: which update step of the run this is."""

    steps: dict[int, int] = field(default_factory=dict)  # round -> steps of the rounds before it
    longest: int = 0

    def of(self, event: Event) -> list[Scalar]:
        if event.kind == "update_step":
            before = self.steps.setdefault(event.round, self.longest)
            step = before + int(event.data.get("step") or 0)
            self.longest = max(self.longest, step)
            found = {k: v for k, v in event.data.items() if k not in {"step", "steps"}}
            return [Scalar(f"update/{n}", v, step) for n, v in flat(found)]
        if event.kind == "phase_ended":
            return [
                Scalar(f"seconds/{event.data.get('phase')}", v, event.round)
                for n, v in flat(event.data)
                if n == "seconds"
            ]
        if event.kind in BY_ROUND:
            return [Scalar(BY_ROUND[event.kind] + n, v, event.round) for n, v in flat(event.data)]
        return []


def flat(data: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a tree, by path. An estimate gives its mean under its own name, and its error beside it."""
    if {"mean", "error"} <= data.keys():
        yield prefix.rstrip("/"), float(data["mean"])
        yield prefix + "error", float(data["error"])
        return
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)

"""Events as named numbers over steps: what every experiment tracker is given, so that all of them agree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seal_ray.events import (
    EditsSelected,
    Event,
    GateDecided,
    HeldOutScored,
    PhaseEnded,
    RewardsMade,
    RoundCommitted,
    UpdateDone,
    UpdateStep,
    UpdateValidated,
)
from seal_ray.records import Json

ROUND = 1000  # on the axis of update steps; rounds have different numbers of them


@dataclass(frozen=True)
class Scalar:
    name: str
    value: float
    step: int


def scalars(event: Event) -> list[Scalar]:
    """The numbers of an event. An update's steps are spread over their round, in thousandths of one, by what the event
    itself says: they never overlap with another round's, and a resumed run continues the same curve."""
    step = event.round
    match event:
        case UpdateStep():
            within = -(-ROUND * event.step // max(1, event.steps))  # rounded up: the last step ends the round
            step = max(0, event.round - 1) * ROUND + min(ROUND, within)
            told: dict[str, Json] = {
                "update/loss": event.loss,
                "update/lr": event.lr,
                "update/grad_norm": event.grad_norm,
                "update/kl": event.kl,
                "update/entropy": event.entropy,
                "update/tokens": event.tokens,
                "update/seconds": event.seconds,
            }
        case UpdateValidated():
            told = {f"validation/loss_after_{event.epoch}": event.loss}
        case PhaseEnded():
            told = {f"seconds/{event.phase}": event.seconds}
        case RewardsMade():
            told = {
                "arms": event.arms,
                "reliability": event.reliability,
                "diversity": event.diversity,
                "coverage": event.coverage,
            }
        case EditsSelected():
            chosen = {"choices": event.choices, "abstained": event.abstained}
            told = {"selected": chosen, "arms": {"kept": event.kept or {}}}
        case UpdateDone():
            told = {
                "update/version": event.version,
                "update/steps": event.steps,
                "update/last_loss": event.loss,
                "update/whole_seconds": event.seconds,
                "update/whole_kl": event.kl,
                "update/whole_entropy": event.entropy,
            }
        case GateDecided():
            told = {"gate": {"accepted": float(event.decision == "accept"), **event.figures}}
        case HeldOutScored():
            tried = {"tried": event.tried, "written": event.written}
            told = {"held_out": {"version": event.version, **tried, "gain": event.gain or {}, "arms": event.arms}}
        case RoundCommitted():
            told = {"round": {"version": event.version, "seconds": event.seconds}}
        case _:
            told = {}
    return [Scalar(name, value, step) for name, value in flat(told)]


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

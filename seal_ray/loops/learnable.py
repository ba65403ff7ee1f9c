"""Which tasks a loop can work on: those that something is asked about, and that a probe did not find known already."""

from collections.abc import Sequence

from seal_ray.config import GradingSection
from seal_ray.errors import ConfigError
from seal_ray.records import Task

UNMEASURED = {"rubric", "predicted"}  # rewards that rest on no trial: there is nothing to learn from them


def check(tasks: Sequence[Task], grading: GradingSection) -> None:
    """Refuse tasks that rounds could make nothing of."""
    refuse_known(tasks)
    if asks(grading):
        refuse_unasked(tasks)


def asks(grading: GradingSection) -> bool:
    """Whether edits are judged by questions that are asked after training on them."""
    return grading.reward not in UNMEASURED


def asked(tasks: Sequence[Task]) -> list[Task]:
    """Without the passages that no question is about: of these nobody could say what was learned."""
    return [t for t in tasks if t.data.get("questions", True)]


def unknown(tasks: Sequence[Task]) -> list[Task]:
    """Without what weighs nothing."""
    return [t for t in tasks if t.weight > 0]


def refuse_unasked(tasks: Sequence[Task]) -> None:
    if tasks and not asked(tasks):
        raise ConfigError(
            f"domain.data: no question is about any of the {len(tasks)} passages, so nobody could tell what is learned",
            hint="`seal-ray probe` writes questions (--to FILE, as domain.data of domain knowledge), `seal-ray adapt` "
            "writes its own; or give yours in domain.questions",
        )


def refuse_known(tasks: Sequence[Task]) -> None:
    if tasks and not unknown(tasks):
        raise ConfigError(
            f"domain.data: all {len(tasks)} tasks have the weight 0, as a probe writes it of what is known already: "
            "nothing is left to learn",
            hint="give other data, or take `weight` out of it to learn it all the same",
        )

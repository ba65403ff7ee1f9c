"""A heat: the edits of a task after a part of their epochs, and which of them can't win any more."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seal_ray.config import GradingSection
from seal_ray.grading.racing import out_of_the_race
from seal_ray.grading.reward import rewards
from seal_ray.grading.votes import Votes
from seal_ray.records import Candidate, Edit, Recipe, Trial, Verdict


def shortened(recipe: Recipe, share: float) -> Recipe:
    """The recipe of a heat: so much of the epochs, with a schedule that comes to its end."""
    return replace(recipe, epochs=max(1, round(share * recipe.epochs)))


def lost(
    edits: Sequence[Edit],
    candidates: Iterable[Candidate],
    trials: Iterable[Trial],
    verdicts: Sequence[Verdict],
    *,
    section: GradingSection,
    keep: float,
    votes: Votes | None = None,
) -> dict[str, str] | None:
    """The edits of one task that are out, each with its reason, from its baseline's trial and those of the heat; None
    where these say nothing of any edit.

    A failure is no place in the race: an edit whose trial in the heat failed or was lost is neither ahead nor behind.
    It goes on besides those that the others' race leaves, and is judged by its full training alone.
    It looks at nothing else, so that a run that is gone on with decides the same, whatever came in meanwhile.
    """
    as_edits = [replace(c, kind="edit") if c.kind == "heat" else c for c in candidates]
    # a judge rates edits and not what training on them does: what heats show is blended as the gate does it
    section = section.model_copy(update={"reward": "blend"}) if section.reward in {"rubric", "predicted"} else section
    rewarded = rewards(edits, as_edits, [t for t in trials if not t.failure], verdicts, section=section, votes=votes)
    if not rewarded.standings:
        return None
    return out_of_the_race(rewarded.standings, [e.id for e in edits], keep)

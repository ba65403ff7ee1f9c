"""From what was explored to rewards, asking for more repeats while the choice is open and some are left."""

import time

from seal_ray.domains import Teller
from seal_ray.errors import CoverageError
from seal_ray.events import RewardsMade, Warned
from seal_ray.grading.reward import RoundRewards, more_repeats, rewards
from seal_ray.grading.rubric import rate
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import carry_on
from seal_ray.loops.foreseeing import foreseen, with_calibration
from seal_ray.loops.learnable import UNMEASURED
from seal_ray.loops.session import Session, once
from seal_ray.loops.voting import count_votes
from seal_ray.records import Json, decode, encode
from seal_ray.storage.flags import as_typed
from seal_ray.storage.ledger import RoundLedger

RATED_AT_ONCE = 64  # edits that are sent to the judge between two looks at the budget


def settle(session: Session, part: RoundLedger, exploration: Exploration, *, votes: bool = False) -> RoundRewards:
    """The rewards of a round. Once they are in the ledger they stay as they are.

    `votes`: of a round that is learned from, where `reward: vote` counts; comparisons go by what the data says.
    """
    if session.rubric and not exploration.plan.trials:
        _rate(session, exploration)
    known = once(part, "rewards.json", lambda: _computed(session, exploration, votes))
    return decode(RoundRewards, {k: v for k, v in known.items() if k != "coverage"})


def reward(
    session: Session, exploration: Exploration, *, votes: bool = False, scale: float | None = None
) -> RoundRewards:
    """Rewards from what is known by now. `votes`: see `settle`. `scale`: see `rewards`."""
    section = session.config.grading
    votes = votes and section.reward == "vote"
    if section.reward == "vote" and not votes:
        section = section.model_copy(update={"reward": "blend"})
    if not exploration.plan.trials and section.reward == "predicted":
        return foreseen(session, exploration)
    if exploration.plan.trials and section.reward in UNMEASURED:  # the gate tries what it compares
        section = section.model_copy(update={"reward": "blend"})
    trials = [t for _, t in sorted(exploration.trials.items()) if not t.failure]
    candidates = [c for _, c in sorted(exploration.candidates.items()) if c.kind != "heat"]
    # in one order, whatever the order in which things came in: sums of floats depend on it
    return rewards(
        [e for _, edits in sorted(exploration.edits.items()) for e in edits],
        candidates,
        trials,
        [v for _, verdicts in sorted(exploration.verdicts.items()) for v in verdicts],
        section=section,
        votes=count_votes(session.domain, exploration.plan.tasks, candidates, trials) if votes else None,
        scale=scale,
    )


def covered(session: Session, exploration: Exploration) -> float:
    """The share of the candidates that have a verdict; raises where it is too small to go on."""
    coverage, run = exploration.coverage(), session.config.run
    if coverage < run.coverage:
        raise CoverageError(
            f"round {exploration.ledger.number}: only {coverage:.0%} of the candidates have a verdict, "
            f"run.coverage wants {run.coverage:.0%}",
            hint=f"`seal-ray status {as_typed(run.uri, session.config.storage)}` says what failed; "
            "the same command tries again",
        )
    return coverage


def _rate(session: Session, exploration: Exploration) -> None:
    """A judge's opinion of the edits themselves, in place of trials."""
    assert session.rubric, "a plan without trials comes with reward: rubric"
    teller = Teller(session.domain)
    descriptions = {t.id: teller.describe(t) for t in exploration.plan.tasks}
    while waiting := exploration.unrated[:RATED_AT_ONCE]:
        session.tick()
        began = time.monotonic()
        verdicts = rate(descriptions, waiting, session.rubric)
        exploration.rated(verdicts, time.monotonic() - began)
    session.ledger.flush()


def _computed(session: Session, exploration: Exploration, votes: bool) -> Json:
    config, plan = session.config, exploration.plan
    extra = config.inner.extra_repeats * len(plan.tasks)
    rewarded = reward(session, exploration, votes=votes)
    while extra:
        requests = more_repeats(rewarded, extra, exploration.asked(), plan.version.digest)
        if not requests:
            break
        exploration.more(requests)
        carry_on(session, exploration)
        rewarded = reward(session, exploration, votes=votes)
    coverage = covered(session, exploration)
    rewarded = with_calibration(exploration, rewarded)
    reliability, arms = encode(rewarded.reliability), encode(rewarded.arms)
    session.tell(RewardsMade(reliability, arms, rewarded.diversity, coverage))
    for note in rewarded.notes:
        session.tell(Warned(note))
    return encode(rewarded) | {"coverage": coverage}

"""Votes in the place of right answers: what most of a version's own answers say, and how sure of itself it is.

The version elects before it has learned from an edit, so no edit votes for itself. It helps while most of its answers
are right, and rewards nothing but being sure after that: agreement and entropy are kept by round, so that the drift is
seen.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seal_ray.records import Failure

LEAST_FOR_A_WINNER = 2  # one vote elects nobody
UNDECIDED = ("tie", "unread")  # how an election fails that was held; by another kind the votes were not even compared


@dataclass(frozen=True)
class Election:
    """What the version's answers to one question elect, or why they elect nothing."""

    task: str
    question: str
    answer: str  # as it was written first; empty without a winner
    cast: int  # votes, also those that can't be read
    largest: int  # votes for the answer that most give
    entropy: float  # of the votes, as a share of what it is where everybody says something else
    failure: Failure | None = None
    correct: bool | None = None  # whether the data calls the winner right; None: it has no answer

    @property
    def agreement(self) -> float:
        return self.largest / self.cast if self.cast else 0.0


@dataclass(frozen=True)
class VoteTally:
    """The elections of a round in a few figures, means over those that were held."""

    questions: int
    elected: int
    tied: int
    unread: int  # no vote could be read
    agreement: float
    entropy: float
    commonest: float  # share of the winners that are one and the same answer to different questions
    correct: float | None  # share of the winners that the data calls right, where it has answers


@dataclass(frozen=True)
class Votes:
    """All elections of a round, and for each candidate's questions the share of its answers that say what won."""

    elections: tuple[Election, ...] = ()
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def elect(task: str, question: str, texts: Sequence[str], classes: Sequence[int | None]) -> tuple[Election, int | None]:
    """The election, and the class of answers that won. `classes`: the same number for the same answer, None: unread."""
    counts = Counter(c for c in classes if c is not None)
    unread = len(classes) - sum(counts.values())
    spread = entropy([*counts.values(), *[1] * unread])  # what can't be read agrees with nobody
    (winner, largest), *rest = counts.most_common() or [(None, 0)]
    if winner is None:
        failure = Failure("unread", f"none of {len(classes)} answers can be read")
    elif largest < LEAST_FOR_A_WINNER:
        failure = Failure("tie", f"no two of {len(classes)} answers agree")
    elif rest and rest[0][1] == largest:
        failure = Failure("tie", f"two answers have {largest} of {len(classes)} votes each")
    else:
        said = texts[classes.index(winner)]
        return Election(task, question, said, len(classes), largest, round(spread, 4)), winner
    return Election(task, question, "", len(classes), largest, round(spread, 4), failure), None


def tally(elections: Sequence[Election]) -> VoteTally | None:
    """None where nobody has voted."""
    if not elections:
        return None
    winners = [e for e in elections if e.failure is None]
    held = [e for e in elections if e.failure is None or e.failure.kind in UNDECIDED]
    judged = [e.correct for e in winners if e.correct is not None]
    same = Counter(e.answer for e in winners).most_common(1)
    return VoteTally(
        questions=len(elections),
        elected=len(winners),
        tied=sum(e.failure is not None and e.failure.kind == "tie" for e in elections),
        unread=sum(e.failure is not None and e.failure.kind == "unread" for e in elections),
        agreement=round(sum(e.agreement for e in held) / max(1, len(held)), 4),
        entropy=round(sum(e.entropy for e in held) / max(1, len(held)), 4),
        commonest=round(same[0][1] / len(winners), 4) if winners else 0.0,
        correct=round(sum(judged) / len(judged), 4) if judged else None,
    )


def collapsing(first: VoteTally, now: VoteTally, rise: float, fall: float) -> bool:
    """Whether agreement has risen and entropy has fallen, both by more than is allowed."""
    return now.agreement - first.agreement > rise and first.entropy - now.entropy > fall


def entropy(sizes: Sequence[int]) -> float:
    """Of groups of these sizes, as a share of what it is where everybody says something else."""
    total = sum(sizes)
    if total < 2:
        return 0.0
    return max(0.0, -sum(n / total * math.log(n / total) for n in sizes if n) / math.log(total))

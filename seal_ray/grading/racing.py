"""Where further repeats are worth most: on the edits between which a task's choice is still open."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seal_ray.records import Repeats, digest

OPEN = 2.0  # a choice is open while the leader is ahead by less than so many standard errors


@dataclass(frozen=True)
class Standing:
    """What is known of an edit: its value with its error, and how much one more trial would tell."""

    edit: str
    task: str
    repeats: int
    following: int  # the number of its next repeat
    mean: float
    error: float
    noise: float  # variance of one trial around its edit


class Standings(Protocol):
    @property
    def standings(self) -> Sequence[Standing]: ...


def more_repeats(
    worth: Standings, budget: int, asked: Sequence[Repeats], version: str, *, portion: float = 0.5
) -> list[Repeats]:
    """What to repeat next, within a budget counted in trials, of which `asked` are spent already.

    A race: each step goes to the pair of edits of one task, leader and challenger, whose next repeat promises the
    largest gain of the better one; edits that have fallen behind get nothing. A call spends a portion of what is left,
    so that the next call can look at what came of it. Empty: nothing is left, or no choice is open.
    """
    left = budget - sum(len(r.edits) * r.repeats for r in asked)
    spend = max(2, math.ceil(left * portion)) if left >= 2 else 0
    races: dict[str, list[_Runner]] = defaultdict(list)
    for s in worth.standings:
        races[s.task].append(_Runner(s))
    extra: dict[str, int] = defaultdict(int)
    reasons: dict[str, str] = {}
    while spend >= 2:
        step = max((s for s in (_step(task, runners) for task, runners in races.items()) if s), default=None)
        if step is None:
            break
        _, task, leader, challenger = step
        ahead, error = leader.mean - challenger.mean, math.sqrt(leader.variance + challenger.variance)
        reasons.setdefault(task, f"the leader is ahead by {ahead:.3g} ± {error:.2g}")
        for runner in (leader, challenger):
            extra[runner.edit] += 1
            runner.repeat()
        spend -= 2
    return [r for task in sorted(reasons) for r in _requests(task, races[task], extra, reasons[task], version)]


def out_of_the_race(standings: Sequence[Standing], edits: Sequence[str], share: float) -> dict[str, str]:
    """Which edits of a task are out after a heat, each with its reason.

    Those go that are behind the leader by more than chance explains, and the last ones where more are left than a share
    of them. Two are always left, so that there is something to compare; an edit of which a heat tells nothing stays.
    """
    race = sorted((s for s in standings if s.edit in set(edits)), key=lambda s: (-s.mean, s.edit))
    most = max(2, math.ceil(round(share * len(edits), 9)))  # 0.07 of 100 is 7
    out: dict[str, str] = {}
    for place, runner in enumerate(race[2:], 3):
        behind, error = race[0].mean - runner.mean, math.hypot(race[0].error, runner.error)
        if place > most:
            out[runner.edit] = f"place {place} of {len(race)} in the heat, and {most} go on"
        elif error and behind > OPEN * error:  # an error of 0 is one that is not known
            out[runner.edit] = f"behind by {behind:.3g} ± {error:.2g} in the heat"
    return out


class _Runner:
    """An edit in the race: its value as a normal distribution that narrows with each repeat."""

    def __init__(self, standing: Standing) -> None:
        self.edit, self.following = standing.edit, standing.following
        self.mean, self.variance, self.noise = standing.mean, standing.error**2, standing.noise

    @property
    def learned(self) -> float:
        """How much variance the next repeat takes away."""
        whole = self.variance + self.noise
        return self.variance**2 / whole if whole > 0 else 0.0

    def repeat(self) -> None:
        self.variance -= self.learned

    def __lt__(self, other: "_Runner") -> bool:
        return self.edit < other.edit


def _step(task: str, runners: Sequence[_Runner]) -> tuple[float, str, _Runner, _Runner] | None:
    """The pair of a task whose next repeat promises most, with what it promises; None where the choice is made."""
    if len(runners) < 2:
        return None
    leader = max(runners, key=lambda r: (r.mean, r.edit))
    best = None
    for challenger in runners:
        if challenger is leader:
            continue
        behind = leader.mean - challenger.mean
        error = math.sqrt(leader.variance + challenger.variance)
        moves = math.sqrt(leader.learned + challenger.learned)
        if moves <= 0 or behind > OPEN * error:
            continue
        gain = moves * _hope(behind / moves)
        if best is None or (gain, challenger.edit) > (best[0], best[3].edit):
            best = (gain, task, leader, challenger)
    return best


def _hope(behind: float) -> float:
    """Mean of what a standard normal variable is above `behind`, counting what is below as nothing."""
    density = math.exp(-(behind**2) / 2) / math.sqrt(2 * math.pi)
    return density - behind * math.erfc(behind / math.sqrt(2)) / 2


def _requests(task: str, runners: Sequence[_Runner], extra: dict[str, int], reason: str, version: str) -> list[Repeats]:
    """The requests of a task: edits that go on from the same repeat are asked for together."""
    together: dict[tuple[int, int], list[str]] = defaultdict(list)
    for runner in runners:
        if extra.get(runner.edit):
            together[runner.following, extra[runner.edit]].append(runner.edit)
    requests = []
    for (first, repeats), edits in sorted(together.items()):
        chosen = tuple(sorted(edits))
        identity = digest([version, task, list(chosen), first, repeats])[:32]
        requests.append(Repeats(identity, task, version, chosen, first, repeats, reason))
    return requests

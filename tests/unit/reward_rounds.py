"""Rounds on paper, for the tests of what is made of them."""

from collections.abc import Sequence

import numpy as np

from seal_ray.config import GradingSection
from seal_ray.grading.reward import RoundRewards, rewards
from seal_ray.records import Candidate, Edit, Failure, Likelihood, Reward, Trial, Verdict

LOST = Failure("killed_worker", "gone", "infra")


class PaperRound:
    """A round on paper: what each trial came to, question by question."""

    def __init__(self) -> None:
        self.edits: dict[str, Edit] = {}
        self.candidates: list[Candidate] = []
        self.trials: list[Trial] = []
        self.verdicts: list[Verdict] = []

    def edit(self, task: str, slot: int, text: str = "", failure: Failure | None = None) -> str:
        name = f"{task}/{slot}"
        self.edits.setdefault(name, Edit(name, task, slot, "v", 0, (), (), (), text or name, "stop", None, failure))
        return name

    def trial(
        self,
        task: str,
        slot: int,
        right: Sequence[float | None] | None = None,
        likely: list[float] | None = None,
        *,
        repeat: int = 0,
        lost: bool = False,
        grader: str = "lexical",
    ) -> None:
        """`slot` -1 is the baseline, -2 the context alone. None among `right`: that verdict failed."""
        kind = "edit" if slot >= 0 else "baseline" if slot == -1 else "context"
        name = f"{task}/{slot}/{repeat}"
        edit = self.edit(task, slot) if slot >= 0 else None
        self.candidates.append(Candidate(name, task, kind, edit, slot, repeat, repeat, None))
        likelihoods = tuple(Likelihood(f"q{n}", 0, 4 * value, 4) for n, value in enumerate(likely or []))
        self.trials.append(Trial(name, task, likelihoods=likelihoods, failure=LOST if lost else None))
        for n, value in enumerate(right or []):
            bad = value is None
            failure = Failure("judge", "x", "infra") if bad else None
            self.verdicts.append(Verdict(name, f"q{n}", grader, None if value is None else value > 0.5, value, failure))

    def worth(self, reward: str = "accuracy", **options) -> RoundRewards:
        section = GradingSection.model_construct(**{**GradingSection().model_dump(), "reward": reward, **options})
        return rewards(list(self.edits.values()), self.candidates, self.trials, self.verdicts, section=section)


def simulated(
    tasks: int, edits: int, repeats: int, signal: float, noise: float, shared: float, seed: int
) -> PaperRound:
    """Likelihoods with known variance components; the accuracy is their sign."""
    draw = np.random.default_rng(seed)
    found = PaperRound()
    for t in range(tasks):
        task = f"t{t:03}"
        found.trial(task, -1, likely=[0.0])
        effects = draw.normal(0, signal, edits)
        seeds = draw.normal(0, shared, repeats)
        for e in range(edits):
            for r in range(repeats):
                found.trial(task, e, likely=[effects[e] + seeds[r] + draw.normal(0, noise)], repeat=r)
    return found


def best_of(worth: RoundRewards) -> list[Reward]:
    """Each task's best edit, whether it beats its baseline or not."""
    best: dict[str, Reward] = {}
    for reward in worth.rewards:
        if reward.task not in best or reward.value.mean > best[reward.task].value.mean:
            best[reward.task] = reward
    return list(best.values())

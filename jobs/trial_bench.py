"""Trials of one's own: edits of a configuration's tasks, tried in this process with any recipe and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from one_process_crew import device

from seal_ray import grading, models
from seal_ray.config import Config
from seal_ray.domains import load_domain
from seal_ray.loops.asking import asks_of
from seal_ray.records import Answer, Attempt, Candidate, CandidateKind, Json, Recipe, Task, Trial, derive_seed
from seal_ray.trials.wave import try_wave

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Wanted:
    """One trial: an edit of a task, or with kind baseline nothing at all."""

    name: str
    task: Task
    kind: CandidateKind
    content: Json = None
    seed: int = 0
    share: float = 1.0  # of the epochs


def domain_of(config: Config) -> Any:
    folder = models.fetch(config.model)
    return load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=config.model.chat == "yes" or (config.model.chat == "auto" and models.has_chat_template(folder)),
        seed=config.run.seed,
        read=lambda path: (ROOT / path).read_bytes(),
    )


class TrialBench:
    def __init__(self, config: Config, threads: int = 1) -> None:
        import torch

        torch.set_num_threads(threads)
        self.config = config
        folder = models.fetch(config.model)
        self.tokenizer = models.tokenizer(folder)
        self.model: Any = models.load(folder, dtype=config.model.dtype, device=device())
        self.domain = domain_of(config)
        self.grader = grading.build(config.grading, "", config.storage)

    def attempt(self, wanted: Wanted) -> Attempt:
        task, recipe, examples = wanted.task, None, []
        if wanted.kind != "baseline":
            examples, recipe = self.domain.training(task, wanted.content, self.tokenizer)
            recipe = _shortened(recipe, wanted.share)
        # a heat has a luck of its own, as in a round: the one that is measured afterwards must not decide who goes on
        luck = () if wanted.share == 1 else ("heat",)
        number = derive_seed("bench", task.id, wanted.seed, *luck)
        candidate = Candidate(wanted.name, task.id, wanted.kind, wanted.name, 0, wanted.seed, number, recipe)
        asks = asks_of(task, self.domain, self.tokenizer, self.config.answering)
        return Attempt(candidate, tuple(examples), asks)

    def try_all(self, wanted: Sequence[Wanted]) -> list[Trial]:
        attempts = [self.attempt(w) for w in wanted]
        return try_wave(
            self.model,
            self.tokenizer,
            attempts,
            wave=self.config.inner.wave,
            tokens_limit=self.config.inner.wave_tokens,
        )

    def accuracies(self, task: Task, trial: Trial) -> list[float]:
        """The share of questions that are answered right, by sample: one number where answers are greedy."""
        by_sample: dict[int, list[Answer]] = {}
        for answer in trial.answers:
            by_sample.setdefault(answer.sample, []).append(answer)
        found = []
        for answers in by_sample.values():
            verdicts = self.domain.verdicts(task, trial.candidate, tuple(answers), self.grader)
            credits_ = [v.credit for v in verdicts if v.credit is not None]
            found += [sum(credits_) / len(credits_)] if credits_ else []
        return found


def _shortened(recipe: Recipe, share: float) -> Recipe:
    from seal_ray.grading.heats import shortened

    return recipe if share == 1 else shortened(recipe, share)

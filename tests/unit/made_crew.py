"""A crew that makes up edits, trials and versions from ids alone, in the place of vLLM, banks and DeepSpeed.

What it gives is worth nothing and always the same, whatever the order in which it is asked: a loop over it that is
broken off and taken up again must come to the same end.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from made_update import updated
from stand_in_crew import StandInCrew, WaitingChunks, WaitingPool

from seal_ray.policy.job import LearnedEdit, UpdateJob, UpdateResult
from seal_ray.records import Answer, Attempt, Edit, Likelihood, Trial, Version, derive_seed
from seal_ray.sampling.sampler import EditPrompt, edit_id


class MadeCrew(StandInCrew):
    """Samplers and pool at once."""

    overlap = True

    def __init__(self, version_files: Path) -> None:
        self.version_files = version_files  # an adapter of the base model, given for every new version
        self.version = ""
        self.sampled: list[EditPrompt] = []
        self.tried: list[Attempt] = []
        self.jobs: list[UpdateJob] = []
        self.break_after = -1  # trials, after which the next is an error; -1: never

    def samplers(self, version: Version, adapter: str | None) -> Any:
        self.version = version.digest
        return _MadeSamplers(self)

    def pool(self, version: Version, adapter: str | None) -> Any:
        self.version = version.digest
        return _MadePool(self)

    def update(self, job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
        self.jobs.append(job)
        shutil.copytree(self.version_files, job.output)
        learned = tuple(LearnedEdit(lesson.edit, lesson.task, lesson.weight) for lesson in job.lessons)
        return updated(job, edits=learned)

    def edit(self, prompt: EditPrompt) -> Edit:
        name = edit_id(self.version, prompt)
        text = f"The text of {name}."
        return Edit(
            name, prompt.task, prompt.slot, self.version, prompt.seed, prompt.prompt_ids, (5, 6), (-1.0, -1.0),
            text, "stop", style=prompt.style,
        )  # fmt: skip

    def trial(self, attempt: Attempt) -> Trial:
        luck = derive_seed("made", attempt.candidate.id) / 2**31
        answers = tuple(Answer(ask.question, f"answer {luck:.3f}", 3, "stop", -1.0) for ask in attempt.asks)
        likely = tuple(Likelihood(ask.question, 0, -10.0 + luck, 2) for ask in attempt.asks)
        losses = tuple(3.0 - luck for _ in range(attempt.steps))
        return Trial(attempt.candidate.id, attempt.candidate.task, losses, answers, likely, worker="made")


class _MadeSamplers(WaitingChunks):
    def __init__(self, crew: MadeCrew) -> None:
        super().__init__()
        self._crew = crew

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        self._crew.sampled += chunk
        return [self._crew.edit(prompt) for prompt in chunk]


class _MadePool(WaitingPool):
    most = 16

    def __init__(self, crew: MadeCrew) -> None:
        super().__init__()
        self._crew = crew

    def poll(self, timeout: float) -> list[Trial]:
        done, self._waiting = self._waiting[:4], self._waiting[4:]
        if done and 0 <= self._crew.break_after < len(self._crew.tried) + len(done):
            raise RuntimeError("broken off")
        self._crew.tried += done
        return [self._crew.trial(attempt) for attempt in done]

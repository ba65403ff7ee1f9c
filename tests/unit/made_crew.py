"""A crew that makes up edits, trials and versions from ids alone, in the place of vLLM, banks and DeepSpeed.

What it gives is worth nothing and always the same, whatever the order in which it is asked: a loop over it that is
broken off and taken up again must come to the same end.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seal_ray.policy.job import LearnedEdit, UpdateJob, UpdateResult
from seal_ray.records import Answer, Attempt, Edit, Likelihood, Trial, Version, derive_seed
from seal_ray.sampling.sampler import EditPrompt, edit_id


class MadeCrew:
    """Samplers and pool at once."""

    overlap = True

    def __init__(self, version_files: Path) -> None:
        self.version_files = version_files  # an adapter of the base model, given for every new version
        self.version = ""
        self.sampled: list[EditPrompt] = []
        self.tried: list[Attempt] = []
        self.jobs: list[UpdateJob] = []
        self.break_after = -1  # trials, after which the next is an error; -1: never
        self._edits: list[tuple[str, list[Edit]]] = []
        self._waiting: list[Attempt] = []

    def samplers(self, version: Version, adapter: str | None) -> Any:
        self.version = version.digest
        return _Samplers(self)

    def pool(self, version: Version, adapter: str | None) -> Any:
        self.version = version.digest
        return _Pool(self)

    def trainers(self) -> dict[str, Any]:
        return {}

    def plan_anew(self) -> None: ...

    def release(self, *roles: str) -> None: ...

    def close(self) -> None: ...

    def gpu_hours(self) -> float:
        return 0.0

    def update(self, job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
        self.jobs.append(job)
        shutil.copytree(self.version_files, job.output)
        return UpdateResult(
            folder=job.output,
            kind="adapter",
            rank=job.section.rank,
            steps=1,
            losses=(1.0,),
            log=(),
            seconds=0.0,
            kl=0.1,
            drift=0.1,
            entropy=1.0,
            entropy_before=1.1,
            likelihood=(),
            likelihood_before=(),
            validation_losses=(),
            left_out=(),
            held_back=(),
            edits=tuple(LearnedEdit(lesson.edit, lesson.task, lesson.weight) for lesson in job.lessons),
            recipe={},
            environment={},
        )

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


class _Samplers:
    def __init__(self, crew: MadeCrew) -> None:
        self._crew, self._waiting = crew, list[tuple[str, list[Edit]]]()

    def submit(self, chunk_id: str, chunk: Sequence[EditPrompt]) -> None:
        self._crew.sampled += chunk
        self._waiting.append((chunk_id, [self._crew.edit(prompt) for prompt in chunk]))

    def poll(self, timeout: float) -> list[tuple[str, list[Edit]]]:
        return [self._waiting.pop(0)] if self._waiting else []


class _Pool:
    def __init__(self, crew: MadeCrew) -> None:
        self._crew, self._waiting = crew, list[Attempt]()

    def submit(self, attempts: Iterable[Attempt]) -> None:
        self._waiting += attempts

    def poll(self, timeout: float) -> list[Trial]:
        done, self._waiting = self._waiting[:4], self._waiting[4:]
        if done and 0 <= self._crew.break_after < len(self._crew.tried) + len(done):
            raise RuntimeError("broken off")
        self._crew.tried += done
        return [self._crew.trial(attempt) for attempt in done]

    def room(self) -> int:
        return max(0, 16 - len(self._waiting))

    def expect(self, count: int) -> None: ...

    def flush(self) -> None: ...

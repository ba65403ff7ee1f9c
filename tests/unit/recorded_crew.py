"""A crew that gives back what a recorded run holds, in the place of vLLM, banks and DeepSpeed.

Whatever else a run is made of (session, ledger, domain, graders, rewards, selection) stays real. A candidate that was
never recorded is an error: then its seed, its texts or its recipe are not what they were.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stand_in_crew import StandInCrew, WaitingChunks, WaitingPool

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.loops.history import Run
from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.records import Attempt, Edit, Failure, Trial, Version
from seal_ray.sampling.sampler import EditPrompt


def configured(recorded: Run, uri: Path, *changes: str) -> Config:
    """The recorded run's configuration, for one round under another URI."""
    return config_file.resolved(
        recorded.record["config"],
        [
            f"run.uri={uri}",
            "run.rounds=1",
            "observe.progress=quiet",
            "observe.ray_metrics=false",
            "storage.stop_within=100",
            *changes,
        ],
    )


class RecordedCrew(StandInCrew):
    """Samplers and pool at once. `overlap`: whether both are there at the same time."""

    def __init__(self, run: Run, *, overlap: bool = False) -> None:
        self.overlap = overlap
        rounds = run.rounds()
        self.edits = {(e.version, e.task, e.slot): e for r in rounds for e in r.edits}
        self.recorded = {t.candidate: t for r in rounds for t in r.trials}
        self.asked: list[tuple[EditPrompt, Edit]] = []  # what was sampled, with what was recorded
        self.tried: list[Attempt] = []
        self.jobs: list[UpdateJob] = []
        self.slow_start = 0  # trials that must have come in before the samplers are up
        self.lose: set[str] = set()  # tasks whose edits are lost, by nobody's fault
        self.roles: list[str] = []  # in the order in which they were asked for
        self._version = ""
        self._run = run

    # what a crew offers

    def samplers(self, version: Version, adapter: str | None) -> "_RecordedSamplers":
        self._version = version.digest
        self.roles.append("sampler")
        return _RecordedSamplers(self)

    def pool(self, version: Version, adapter: str | None) -> "_RecordedPool":
        self._version = version.digest
        self.roles.append("worker")
        return _RecordedPool(self)

    def trainers(self) -> dict[str, Any]:
        self.roles.append("trainer")
        return {}

    # in the place of the update

    def update(self, job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
        """The version that the recorded run made of these lessons."""
        self.jobs.append(job)
        learned = {lesson.edit for lesson in job.lessons}
        for found in self._run.rounds():
            said = found.update or {}
            if {e["edit"] for e in said.get("edits", ())} == learned:
                shutil.copytree(next(Path(self._run.uri, f"rounds/{found.number:04d}/version").iterdir()), job.output)
                known = {f.name: said[f.name] for f in dataclasses.fields(UpdateResult) if f.name in said}
                return UpdateResult(**(known | {"folder": job.output, "kind": "adapter", "log": ()}))
        raise AssertionError(f"no update was recorded from {sorted(learned)}")


class _RecordedSamplers(WaitingChunks):
    def __init__(self, crew: RecordedCrew) -> None:
        super().__init__()
        self._crew = crew

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        edits = []
        for prompt in chunk:
            edit = self._crew.edits[self._crew._version, prompt.task, prompt.slot]
            self._crew.asked.append((prompt, edit))
            # as a sampler hands it in: nobody has parsed it yet
            own = edit.failure if edit.failure and not edit.ids else None
            if prompt.task in self._crew.lose:
                own = Failure("killed_sampler", "it was killed", "infra")
            edits.append(dataclasses.replace(edit, content=None, failure=own))
        return edits

    def poll(self, _timeout: float) -> list[tuple[str, list[Edit]]]:
        return super().poll(_timeout) if len(self._crew.tried) >= self._crew.slow_start else []


class _RecordedPool(WaitingPool):
    most = 8

    def __init__(self, crew: RecordedCrew) -> None:
        super().__init__()
        self._crew = crew

    def poll(self, timeout: float) -> list[Trial]:
        time.sleep(0.001)  # a real one waits too, and leaves graders their turn
        done, self._waiting = self._waiting[::-1][:3], self._waiting[::-1][3:][::-1]  # in no helpful order
        self._crew.tried += done
        return [self._crew.recorded[a.candidate.id] for a in done]

"""Jobs for tests of the policy update: a tiny model, made-up lessons, and a sink that may kill a worker."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
from running_processes import runs

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.events import ActorChanged, Event, UpdateStep, Warned
from seal_ray.policy.learner import pack, token_scores
from seal_ray.policy.lessons import Lesson, LessonText
from seal_ray.policy.update import UpdateJob


def base_folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


def made_up_lessons(count: int = 7) -> tuple[Lesson, ...]:
    """Lessons of different lengths, so that rows and workers have something to share out."""
    random_ = random.Random(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(random_.randrange(3, 500) for _ in range(length))

    return tuple(Lesson(f"e{i}", f"t{i}", LessonText(ids(5 + i % 4), ids(8 + 3 * (i % 5)))) for i in range(count))


def job(output: Path, workers: int = 1, lessons: tuple[Lesson, ...] | None = None, **settings: Any) -> UpdateJob:
    plain: dict = {
        "rank": 8, "alpha": 16, "lr": 5e-3, "epochs": 2, "global_batch": 3, "micro_batch_tokens": 64,
        "dtype": "float32",
    }  # fmt: skip
    return UpdateJob(
        base=base_folder(),
        lessons=made_up_lessons() if lessons is None else lessons,
        section=PolicySection(**(plain | settings)),
        seed=1,
        output=str(output),
        num_workers=workers,
    )


class Sink:
    """Keeps events; with `kill`, signals the worker of that rank once, when the given step was told."""

    def __init__(self, kill: int | None = None, at: int = 1, by: signal.Signals = signal.SIGKILL) -> None:
        self.events: list[Event] = []
        self.pids: dict[str, list[int]] = {}
        self._kill, self._at, self._by = kill, at, by

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ActorChanged):
            self.pids.setdefault(event.worker, []).append(event.pid)
        if isinstance(event, UpdateStep) and self._kill is not None and event.step >= self._at:
            os.kill(self.pids[f"trainer-{self._kill}"][-1], self._by)
            self._kill = None

    def steps(self) -> list[int]:
        return [e.step for e in self.events if isinstance(e, UpdateStep)]

    def warnings(self) -> list[str]:
        return [e.message for e in self.events if isinstance(e, Warned)]

    def alive(self) -> list[int]:
        """Workers that still run, zombies not counted."""
        return [pid for pids in self.pids.values() for pid in pids if runs(pid)]


def actors_left(within: float = 20) -> list[str]:
    """Names of actors that are alive once they had time to end. The cluster's own autoscaling service is not ours."""
    from ray._private.state import actors

    until = time.monotonic() + within
    while True:
        alive = [a["ActorClassName"] for a in actors().values() if a["State"] != "DEAD"]
        alive = [name for name in alive if name != "_AutoscalingCoordinatorActor"]
        if not alive or time.monotonic() > until:
            return alive
        time.sleep(0.1)


def rooms_left(within: float = 20) -> list[str]:
    """Placement groups that are still held, once they had time to end."""
    from ray.util import placement_group_table

    until = time.monotonic() + within
    while True:
        held = [name for name, group in placement_group_table().items() if group["state"] != "REMOVED"]
        if not held or time.monotonic() > until:
            return held
        time.sleep(0.1)


@torch.no_grad()
def likelihood(model: Any, lessons: tuple[Lesson, ...]) -> list[float]:
    """Mean log-probability per token of each lesson's text, one at a time."""
    found = []
    for lesson in lessons:
        row = pack([lesson.text])
        out = model(input_ids=row.ids, position_ids=row.positions, use_cache=False)
        found.append(float(token_scores(out.logits[0, row.keep], row.targets)[0].mean()))
    return found

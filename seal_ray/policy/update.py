"""The policy update as the driver sees it: lessons and a version go in, a new version's files come out.

Ray Train places the workers and DeepSpeed shards what they train; one worker that trains an adapter needs neither and
runs as a plain task. A step learns from one global batch whatever the number of workers: its loss is divided by what
the whole batch holds, and the rows of a batch are only ever summed.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.errors import ConfigError, DataError, Unlearnable
from seal_ray.events import Sink, Warned
from seal_ray.models.shared import share
from seal_ray.policy.job import LearnedEdit, UpdateJob, UpdateResult
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.packing import LeftOut, fitting, hold_back, vocabulary
from seal_ray.policy.update_actor import Limits, TrainerCount, desk_class
from seal_ray.policy.update_watch import Watch
from seal_ray.policy.update_worker import Payload, train_alone, train_in_group
from seal_ray.records import ADAPTER, ADAPTER_CONFIG
from seal_ray.software import software

__all__ = ["UpdateJob", "UpdateResult", "update"]


FOLDER = "name the folder of a version"


def update(job: UpdateJob, *, sink: Sink, tick: Callable[[], None] = lambda: None) -> UpdateResult:
    """Train the policy on, and return where the new version's files are. Ray must be up; nothing is left running.

    `tick` is called often, and what it raises ends the update.

    Lost workers are replaced and the update starts again from its inputs (full fine-tuning from its last checkpoint),
    at most `policy.retries` times. Whatever goes wrong, `job.output` is either whole or not there.
    """
    began = time.monotonic()
    size, longest = _check(job)
    lessons = _lessons(job, size, longest, sink)
    part, checkpoints = f"{job.output}.part", f"{job.output}.checkpoints"
    watch = Watch(_desk(part, checkpoints), sink, tick)
    crew = TrainerCount(job.num_workers, job.use_gpu, job.cpus_per_worker, _environment(job), _alone(job))
    try:
        shutil.rmtree(checkpoints, ignore_errors=True)
        os.mkdir(checkpoints)
        trained, attempts = _train(job, lessons, checkpoints, crew, watch)
        os.rename(part, job.output)
    finally:
        watch.end()
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
    log = tuple(watch.steps[n] for n in sorted(watch.steps))
    return UpdateResult(
        folder=job.output,
        steps=len(log),
        losses=tuple(s.loss for s in log),
        log=log,
        seconds=time.monotonic() - began,
        left_out=lessons.left_out,
        held_back=tuple(lesson.edit for lesson in lessons.held),
        edits=tuple(LearnedEdit(lesson.edit, lesson.task, lesson.weight) for lesson in lessons.learned),
        recipe=job.section.model_dump(mode="json") | {"algorithm": job.lessons[0].algorithm, "seed": job.seed},
        environment=software() | {"workers": str(crew), "engine": "torch" if _alone(job) else "deepspeed"},
        attempts=attempts,
        validation_losses=tuple(watch.validation[n] for n in sorted(watch.validation)),
        **trained,
    )


@dataclass(frozen=True)
class _Lessons:
    """What becomes of a job's lessons: learned, held back to measure a validation loss, or left out."""

    learned: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    left_out: tuple[LeftOut, ...]


def _lessons(job: UpdateJob, size: int, longest: int, sink: Sink) -> _Lessons:
    """`size` is that of the vocabulary, `longest` the most tokens that the model takes."""
    of_text = {"policy.max_length": job.section.max_length, "the model's own limit": longest}
    of_row = {"policy.micro_batch_tokens": job.section.micro_batch_tokens}
    fit, left_out = fitting(job.lessons, of_text, of_row, size)
    for left in left_out:
        sink(Warned(f"edit {left.edit} of task {left.task} is left out: {left.reason}"))
    if not fit:
        raise Unlearnable(
            f"none of the {len(job.lessons)} lessons can be learned from; the first has {left_out[0].reason}",
            hint="raise policy.max_length and policy.micro_batch_tokens, or lower sampling.max_tokens",
        )
    learned, held = hold_back(fit, job.section.validation, job.seed)
    return _Lessons(tuple(learned), tuple(held), tuple(left_out))


def _desk(part: str, checkpoints: str) -> Any:
    """The actor that takes what workers send, on this node: it writes to this node's disk."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return desk_class().options(num_cpus=0, scheduling_strategy=here).remote(part, checkpoints)


def _train(
    job: UpdateJob, lessons: _Lessons, checkpoints: str, crew: TrainerCount, watch: Watch
) -> tuple[dict[str, Any], int]:
    """What the workers say of what they trained, and how many attempts it took."""
    import ray

    start = share(job.adapter, job.kept)  # held until the workers have it: no node but this one sees the folder
    payload = ray.put(Payload(job, lessons.learned, lessons.held, start, checkpoints))
    section = job.section
    within = Limits(section.worker_timeout, section.hang_timeout, section.collective_timeout)
    return watch.attempts(train_alone if crew.alone else train_in_group, payload, crew, within, section.retries)


def _check(job: UpdateJob) -> tuple[int, int]:
    """Refuse what can't work before anything is started. Returns what `vocabulary` does."""
    section = job.section
    if not job.lessons:
        raise DataError("there is nothing to learn from", hint="a round without a choice commits without an update")
    if len({lesson.algorithm for lesson in job.lessons}) > 1:
        raise DataError("the lessons of one update come from different algorithms", hint="update with one at a time")
    if section.mode == "full" and section.fresh:
        raise ConfigError("policy.fresh: true begins a new adapter, and mode: full has none", hint="use mode: lora")
    if job.num_workers < 1:
        raise ConfigError(f"placement.trainers: {job.num_workers} is no number of workers", hint="use 1 or more")
    if os.path.exists(job.output):
        raise DataError(f"{job.output}: already there", hint="remove it, or name another folder")
    if job.adapter is not None and not (Path(job.adapter) / "config.json").exists():
        missing = [name for name in (ADAPTER, ADAPTER_CONFIG) if not (Path(job.adapter) / name).is_file()]
        if missing:
            raise DataError(f"{job.adapter}: no adapter to go on from, {missing[0]} is not there", hint=FOLDER)
        if section.mode == "full":
            raise ConfigError(
                "policy.mode: full can't go on from a version that is an adapter",
                hint="use mode: lora, or export the version merged and name it as the model",
            )
    os.makedirs(os.path.dirname(os.path.abspath(job.output)), exist_ok=True)
    return vocabulary(job.base)


def _alone(job: UpdateJob) -> bool:
    """Whether one worker trains where it stands: there is nothing to shard, and it starts in a fraction of the time."""
    section = job.section
    return section.engine == "auto" and job.num_workers == 1 and section.mode == "lora" and section.offload == "none"


def _environment(job: UpdateJob) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(job.threads or max(int(job.cpus_per_worker), 1)),
        "TOKENIZERS_PARALLELISM": "false",
        "DS_ACCELERATOR": "cuda" if job.use_gpu else "cpu",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }

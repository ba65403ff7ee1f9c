"""What a run will do, before anything starts: counts, tokens, memory and time, each with what it rests on."""

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from seal_ray import models
from seal_ray.config import Config
from seal_ray.domains import configured
from seal_ray.domains.base import Domain
from seal_ray.records import Json, Task
from seal_ray.shapes import Shape

CHARACTERS = 4  # of English in a token
TEXTS = 8.6  # training texts of a published self-edit, on average
TEXT_TOKENS = 46  # tokens of such a text, on average
LONGEST_TEXT = 400  # tokens of the longest text of a candidate: the passage itself
GPU_FLOPS = 150e12  # operations a second that a device keeps up
CPU_FLOPS = {"bfloat16": 0.3e12, "float32": 0.1e12}  # of two cores, as measured: with AVX-512, and with AVX2
GPU_BYTES = 80e9
SMALL = 1e9  # parameters that are worth a CPU's time
UPDATE_ON = {"gpu": (1, 8, 32), "cpu": (1,)}  # devices that an update is planned for where nothing says how many


def make(config: Config) -> dict[str, Json]:
    """The plan as plain data. Reads the data, not the model's weights."""
    domain = configured(config)
    train = list(domain.tasks("train"))
    tasks = min(config.run.tasks_per_round, len(train))
    counts = _counts(config, domain, train, tasks)
    planned: dict[str, Json] = {
        "run": {"uri": config.run.uri, "rounds": config.run.rounds, "seed": config.run.seed},
        "tasks": {split: len(domain.tasks(split)) for split in ("train", "validation", "test")},  # type: ignore
        "round": counts,
        "rests_on": [
            f"{CHARACTERS} characters a token",
            f"{TEXTS} texts of {TEXT_TOKENS} tokens for an edit in text, as published; directives: the whole limit",
        ],
    }
    if config.inner.objective.startswith("distill"):
        planned["rests_on"].append("what a teacher reads, and what adapters write while they are trained, is left out")
    if config.inner.heat or config.inner.prune:
        planned["rests_on"].append("every edit is tried in full: what inner.heat and inner.prune save is not taken off")
    beside = [name for name, on in (("gate", config.gate.mode != "off"), ("evaluation", config.evaluation.every)) if on]
    if beside:
        planned["rests_on"].append(f"what is tried besides ({' and '.join(beside)}) is left out")
    shape = _shape(config)
    if shape:
        planned |= _machines(config, counts, shape)
    else:
        planned["rests_on"].append(f"memory and time are left out: the sizes of {config.model.name} are not known yet")
    return planned


def _characters(task: Task) -> int:
    """Of what is trained on besides the edit: the passage; a task without one counts whole."""
    context = task.data.get("context")
    return len(context) if isinstance(context, str) else len(json.dumps(dict(task.data)))


def _counts(config: Config, domain: Domain, train: list[Task], tasks: int) -> dict[str, Any]:
    section = config.inner
    edits = tasks * config.sampling.edits
    trained = edits * section.repeats + tasks * section.extra_repeats
    alone = tasks * section.repeats if section.context_arm else 0
    questions = sum(len(domain.questions(t)) for t in train[:200]) / max(1, len(train[:200]))
    asked = math.ceil((trained + alone + tasks) * questions * config.answering.samples)
    context = sum(map(_characters, train[:200])) / max(1, len(train[:200])) / CHARACTERS
    texts = min(TEXTS, getattr(config.domain, "max_texts", TEXTS))
    steps = section.recipe().steps(math.ceil(texts) + 1)
    per_edit = section.epochs * (texts * min(TEXT_TOKENS, section.max_length) + min(context, section.max_length))
    return {
        "tasks": tasks,
        "edits": edits,
        "candidates": trained + alone + tasks,
        "of_which": {"edits": trained, "context_alone": alone, "baseline": tasks},
        "sampled_tokens_at_most": edits * config.sampling.max_tokens,
        "steps_per_candidate": steps,
        "trained_tokens": int(trained * per_edit + alone * section.epochs * min(context, section.max_length)),
        "answers": asked,
        "answered_tokens_at_most": asked * config.answering.max_tokens,
    }


def _shape(config: Config) -> Shape | None:
    from seal_ray.errors import SealError

    try:
        return models.shape(config.model.name)
    except SealError:
        return None  # a hub id that is not on this node: its sizes are known once it is fetched


def _machines(config: Config, counts: dict[str, Any], shape: Shape) -> dict[str, Json]:
    """Memory and time, on GPUs or on this machine's CPUs; a small model may turn out to be on either."""
    planned = _on(config.placement.device, config, counts, shape)
    if config.placement.device == "auto" and shape.parameters < SMALL:
        planned |= {k: v for k, v in _on("cpu", config, counts, shape).items() if k == "cpu_hours"}
    return planned


def _on(device: str, config: Config, counts: dict[str, Any], shape: Shape) -> dict[str, Json]:
    from seal_ray.inner.memory import BankSetup, slots_for, training_bytes

    device = "cpu" if device == "cpu" else "gpu"
    dtype = models.pick_dtype(config.model.dtype, device) if device == "cpu" else config.model.dtype
    wide = 4 if dtype == "float32" else 2
    flops = CPU_FLOPS[dtype] if device == "cpu" else GPU_FLOPS
    device_bytes = _main_memory() if device == "cpu" else GPU_BYTES
    section = config.inner
    base = shape.parameters * wide
    # as a worker plans them: by the length of its candidates' texts, and never more rows than one forward takes
    text = min(TEXT_TOKENS, section.max_length) * section.batch_size * section.accumulation
    setup = BankSetup(
        dtype_bytes=wide,
        rank=section.rank,
        targets=section.targets,
        step_tokens=text,
        tokens_limit=section.wave_tokens,
        moments=section.moments,
    )
    longest, candidates = min(LONGEST_TEXT, section.max_length), counts["candidates"]
    fitting = slots_for(int(device_bytes - base), shape, setup, longest=longest, candidates=candidates)
    wave = min(section.wave or fitting, candidates)
    memory = base + training_bytes(shape, setup, adapters=wave, rows=min(wave * text, section.wave_tokens))
    # forward, and backward through the frozen base: no gradient of its weights
    work = {
        "sample": 2 * shape.parameters * counts["sampled_tokens_at_most"] / 2,
        "try": 4 * shape.parameters * counts["trained_tokens"],
        "answer": 2 * shape.parameters * counts["answered_tokens_at_most"] / 2,
    }
    hours = {k: v / flops / 3600 * config.run.rounds for k, v in work.items()}
    on = (config.placement.trainers,) if config.placement.trainers else UPDATE_ON[device]
    update = _update(config, counts, shape, wide, flops, on)
    hours["update"] = update[0]["devices"] * update[0]["seconds"] / 3600 * config.run.rounds
    return {
        "memory": {
            "base_gb": round(base / 1e9, 2),
            "wave": wave,
            "wave_gb": round(memory / 1e9, 2),
            "device_gb": round(device_bytes / 1e9),
        },
        "update": update,
        f"{device}_hours": {k: float(f"{v:.3g}") for k, v in hours.items()}
        | {"all": float(f"{sum(hours.values()):.3g}"), "tflops": flops / 1e12},
    }


def _main_memory() -> int:
    """Of this machine, half of it: a worker leaves the other half to its node's other processes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _update(
    config: Config, counts: dict[str, Any], shape: Shape, weight_bytes: int, flops: float, on: Sequence[int]
) -> list[dict[str, Any]]:
    """What each device of the policy update holds and how long it takes, by the formula of policy/memory.py."""
    from seal_ray.policy.memory import UpdateSetup, need, seconds

    tokens = int(counts["tasks"] * config.sampling.max_tokens / 2)
    planned = []
    for devices in on:
        setup = UpdateSetup.of(config.policy, devices=devices, weight_bytes=weight_bytes)
        held, taken = need(shape, setup).total, seconds(shape, setup, tokens, flops=flops)
        planned.append({"devices": devices, "gb": round(held / 1e9, 2), "seconds": float(f"{taken:.3g}")})
    return planned


def show(planned: dict[str, Any]) -> str:
    r, tasks = planned["round"], planned["tasks"]
    out = [
        f"run        {planned['run']['uri']}, {planned['run']['rounds']} rounds, seed {planned['run']['seed']}",
        f"tasks      {tasks['train']} to train on, {tasks['validation']} for validation, {tasks['test']} for the test",
        f"a round    {r['tasks']} tasks, {r['edits']} edits, {r['candidates']:,} candidates "
        f"({r['of_which']['edits']:,} edits, {r['of_which']['context_alone']} context alone, "
        f"{r['of_which']['baseline']} baseline)",
        f"           at most {r['sampled_tokens_at_most']:,} tokens sampled; about {r['trained_tokens']:,} trained on, "
        f"{r['steps_per_candidate']} steps a candidate; {r['answers']:,} answers",
    ]
    if "memory" in planned:
        m = planned["memory"]
        out.append(
            f"memory     base {m['base_gb']} GB; {m['wave']} candidates at once {m['wave_gb']} GB of {m['device_gb']:g}"
        )
        each = ", ".join(f"{u['devices']}: {u['gb']} GB each, {u['seconds']:,} s" for u in planned["update"])
        out.append(f"update     by number of devices: {each}, start-up not counted")
        for device in ("gpu", "cpu"):
            hours = planned.get(f"{device}_hours")
            if hours:
                parts = ", ".join(f"{k} {hours[k]:.3g}" for k in ("sample", "try", "answer", "update"))
                out.append(
                    f"{device} hours  {hours['all']:.3g} in all ({parts}), at {hours['tflops']:g} TFLOP/s kept up; "
                    "half of the token limits used"
                )
    out += [f"rests on   {line}" for line in planned["rests_on"]]
    return "\n".join(out)

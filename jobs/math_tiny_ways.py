"""How much each way to write an edit teaches in the tiny world of mathematics: trained on as an edit is, and asked.

    python jobs/math_tiny_ways.py [--tasks 24]

No policy writes here: the edits are those that the model was trained to write. What the rounds of `math-tiny.yaml` can
gain is the distance from the mean over the ways by their shares, which the model begins with, to the best one.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from math_tiny_model import edit
from math_tiny_tasks import WAYS
from rich.console import Console
from rich.table import Table

from seal_ray import config_file, models
from seal_ray.domains import load_domain
from seal_ray.grading.measure import measure
from seal_ray.records import Ask, Attempt, Candidate, Task, derive_seed
from seal_ray.trials.wave import try_wave

JOB = Path(__file__).parent / "math-tiny.yaml"
UNTRAINED = "no edit"


def rule_of(task: Task) -> tuple[str, str]:
    """The letter of a task's operator, and what it does."""
    name, rule = task.data["context"].split(" is ", 1)
    return name.split()[1], rule


def attempt(domain: Any, tokenizer: Any, task: Task, way: str) -> Attempt:
    rng = np.random.default_rng(derive_seed(task.id, way))
    text = edit(*rule_of(task), rng, way)[0] if way != UNTRAINED else None
    examples, recipe = domain.training(task, text, tokenizer) if text else ([], None)
    asks = [
        Ask(
            q.id,
            tuple(models.render(tokenizer, q.prompt)),
            tuple((*models.text_ids(tokenizer, q.lead + gold), tokenizer.eos_token_id) for gold in q.gold),
            q.max_tokens,
            q.stop,
        )
        for q in domain.questions(task)
    ]
    kind, number = ("edit" if text else "baseline"), derive_seed(task.id)
    return Attempt(
        Candidate(f"{task.id}/{way}", task.id, kind, way, 0, 0, number, recipe), tuple(examples), tuple(asks)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how much each way to write an edit teaches")
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    given = parser.parse_args()
    began, config = time.monotonic(), config_file.load(JOB, given.set)
    folder = models.fetch(config.model)
    tokenizer, model = models.tokenizer(folder), models.load(folder, dtype="float32")
    domain: Any = load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=False,
        seed=config.run.seed,
        read=lambda path: (JOB.parents[1] / path).read_bytes(),
    )
    tasks = {t.id: t for t in list(domain.tasks("train"))[: given.tasks]}
    ways = [UNTRAINED, *WAYS]
    attempts = [attempt(domain, tokenizer, task, way) for task in tasks.values() for way in ways]
    trials = try_wave(model, tokenizer, attempts, wave=config.inner.wave)
    verdicts = [v for t in trials for v in domain.verdicts(tasks[t.task], t.candidate, t.answers)]
    measured = measure([a.candidate for a in attempts], trials, verdicts, "exact")
    table = Table("edit", title=f"{len(tasks)} tasks")
    for column in ("written in", "right", "log-probability of a right token"):
        table.add_column(column, justify="right")
    for way in ways:
        own = [m for m in measured if m.edit == way]
        cells = [[v for m in own if (v := getattr(m, name)) is not None] for name in ("accuracy", "likelihood")]
        share = f"{WAYS[way]:.0%}" if way in WAYS else ""
        table.add_row(way, share, *(f"{np.mean(c):.3f}" if c else "-" for c in cells))
    Console(width=100).print(table, f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()

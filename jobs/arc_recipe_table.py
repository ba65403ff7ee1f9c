"""What the paper's recipe comes to for each task: training examples, optimiser steps, and tokens.

    python jobs/arc_recipe_table.py --tokenizer FOLDER --challenges FILE [--solutions FILE]

FOLDER is a model's folder or its name on the hub. The figures are those of a run with `jobs/arc-1b.yaml`: an edit
that needs more than `domain.max_steps` steps is recorded as failed: over budget.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seal_ray import config_file, models
from seal_ray.config import ArcDomain
from seal_ray.domains.arc import build
from seal_ray.domains.arc.augment import FAMILIES
from seal_ray.domains.base import Rejected
from seal_ray.records import Json

JOB = Path(__file__).parent / "arc-1b.yaml"
EPOCHS = (1, 2, 3)
CHOICES = {"none": (), **{name: (name,) for name in FAMILIES}, "all": FAMILIES}


def directives(families: tuple[str, ...], epochs: int) -> dict[str, Json]:
    chosen = {name: name in families for name in FAMILIES}
    return {**chosen, "loss": "output", "learning_rate": 1e-4, "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description="training examples and steps of the paper's recipe, task by task")
    parser.add_argument("--tokenizer", required=True, help="a model's folder")
    parser.add_argument("--challenges", required=True)
    parser.add_argument("--solutions", default="")
    parser.add_argument("--chat", action="store_true", help="write the examples with the chat template")
    given = parser.parse_args()
    config = config_file.load(JOB)
    assert isinstance(config.domain, ArcDomain)
    section = config.domain.model_copy(
        update={"data": given.challenges, "solutions": given.solutions, "validation": 0, "test": 0}
    )
    domain = build(
        section,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=given.chat,
        seed=config.run.seed,
        read=lambda path: Path(path).read_bytes(),
    )
    tokenizer = models.tokenizer(given.tokenizer)
    limits = (
        f"at most {section.max_examples} examples, batch {config.inner.batch_size}, at most {section.max_steps} steps"
    )
    table = Table(title=f"Training examples by families chosen; longest, tokens and steps with all of them; {limits}")
    for column in ("task", "shown", *CHOICES, "longest", "tokens"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for epochs in EPOCHS:
        table.add_column(f"steps, {epochs} epoch{'s' if epochs > 1 else ''}", justify="right")
    for task in sorted([*domain.tasks("train"), *domain.tasks("test")], key=lambda task: task.id):
        made = {name: domain.training(task, directives(f, 1), tokenizer)[0] for name, f in CHOICES.items()}
        lengths = [len(example.ids) for example in made["all"]]
        steps = []
        for epochs in EPOCHS:
            try:
                examples, recipe = domain.training(task, directives(FAMILIES, epochs), tokenizer)
                steps.append(str(recipe.steps(len(examples))))
            except Rejected as rejected:
                steps.append(rejected.failure.kind)
        counts = [str(len(examples)) for examples in made.values()]
        shown = [str(len(task.data["train"])), *counts, str(max(lengths)), f"{sum(lengths):,}", *steps]
        table.add_row(task.id, *shown)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()

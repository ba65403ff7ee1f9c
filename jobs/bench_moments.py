"""What moments in 16 and 8 bits do to rewards: the same edits, tried with each kind and the same seeds.

    python jobs/bench_moments.py [--people 12] [--seeds 2] [--set inner.epochs=8]

In the tiny world of knowledge (python jobs/knowledge_tiny_model.py makes its model). Beside float32 with the same
seeds stands what another seed does to float32: what rewards differ by anyway.
"""

import argparse
import time
from pathlib import Path
from typing import get_args

import numpy as np
from knowledge_tiny_tasks import FACTS, HELD_OUT, KINDS, PEOPLE, notes, people
from rich.console import Console
from rich.table import Table
from trial_bench import TrialBench, Wanted

from seal_ray import config_file
from seal_ray.grading.measure import measure
from seal_ray.records import MomentKind, Task, derive_seed

JOB = Path(__file__).parent / "knowledge-tiny.yaml"
MEASURES = ("accuracy", "likelihood")


def tried(bench: TrialBench, tasks: list[Task], seeds: int) -> dict[str, np.ndarray]:
    """By measure, `[seed, task, edit]`."""
    everybody = {p.name: p for p in people(PEOPLE, HELD_OUT)}
    wanted = []
    for seed in range(seeds):
        for task in tasks:
            for kind in KINDS:
                text = notes(
                    everybody[task.data["title"]], kind, np.random.default_rng(derive_seed(task.id, kind)), FACTS
                )
                wanted.append(Wanted(f"{task.id}/{kind}/{seed}", task, "edit", text, seed))
    trials = bench.try_all(wanted)
    by_id = {t.id: t for t in tasks}
    verdicts = [v for t in trials for v in bench.domain.verdicts(by_id[t.task], t.candidate, t.answers, bench.grader)]
    measured = measure([bench.attempt(w).candidate for w in wanted], trials, verdicts, bench.grader.name)
    by_edit = {m.edit: m for m in measured}
    return {
        name: np.array([getattr(by_edit[w.name], name) for w in wanted], float).reshape(seeds, len(tasks), -1)
        for name in MEASURES
    }


def alike(ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """Correlation within tasks, how far two rewards of an edit are apart, and how often both choose the same edit."""
    within = [(one - one.mean(-1, keepdims=True)).ravel() for one in (ours, theirs)]
    same = np.mean(ours.mean(0).argmax(-1) == theirs.mean(0).argmax(-1))
    apart = np.sqrt(np.mean((ours - theirs) ** 2))
    return [f"{np.corrcoef(*within)[0, 1]:.4f}", f"{apart:.4f}", f"{same:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="what moments in 16 and 8 bits do to rewards")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    given = parser.parse_args()
    began, results = time.monotonic(), dict[str, dict[str, np.ndarray]]()
    for kind in get_args(MomentKind):
        bench = TrialBench(config_file.load(JOB, [*given.set, f"inner.moments={kind}"]))
        results[kind] = tried(bench, list(bench.domain.tasks("train"))[: given.people], given.seeds)
    title = f"{given.people} people, {len(KINDS)} edits each, {given.seeds} seeds"
    table = Table("moments", "measure", "mean", title=title)
    for column in ("correlation with float32", "apart by", "same choice"):
        table.add_column(column, justify="right")
    plain = results["float32"]
    for kind, own in results.items():
        for name in MEASURES:
            beside = alike(own[name], plain[name]) if kind != "float32" else ["", "", ""]
            table.add_row(kind, name, f"{own[name].mean():.4f}", *beside)
    if given.seeds > 1:
        for name in MEASURES:
            first, second = plain[name][:1], plain[name][1:2]
            table.add_row("float32, two seeds", name, "", *alike(first, second))
    Console(width=120).print(table, f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()

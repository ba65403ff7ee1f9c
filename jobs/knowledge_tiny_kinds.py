"""How useful each kind of notes is in the tiny world of knowledge: trained on as an edit is, and questioned.

    python jobs/knowledge_tiny_kinds.py [--people 24] [--seeds 2]

No policy writes here: the notes are those that the kinds' forms make. What the rounds of `knowledge-tiny.yaml` can gain
is the distance from the mean over kinds, which the model begins with, to the best one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from knowledge_tiny_tasks import FACTS, HELD_OUT, KINDS, LEAST, PEOPLE, notes, people
from rich.console import Console
from rich.table import Table
from trial_bench import TrialBench, Wanted

from seal_ray import config_file
from seal_ray.grading.measure import measure
from seal_ray.records import derive_seed

JOB = Path(__file__).parent / "knowledge-tiny.yaml"
UNTRAINED = "without notes"


def main() -> None:
    parser = argparse.ArgumentParser(description="how useful each kind of notes is")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    given = parser.parse_args()
    began, bench = time.monotonic(), TrialBench(config_file.load(JOB, given.set))
    everybody = {p.name: p for p in people(PEOPLE, HELD_OUT)}
    tasks = list(bench.domain.tasks("train"))[: given.people]
    arms = [(kind, count) for kind in KINDS for count in (LEAST, FACTS)]
    wanted, arm_of = list[Wanted](), dict[str, str]()
    for task in tasks:
        wanted.append(Wanted(f"{task.id}/none", task, "baseline"))
        arm_of[wanted[-1].name] = UNTRAINED
        for kind, count in arms:
            luck = np.random.default_rng(derive_seed(task.id, kind, count))
            text = notes(everybody[task.data["title"]], kind, luck, count)
            for seed in range(given.seeds):
                wanted.append(Wanted(f"{task.id}/{kind}/{count}/{seed}", task, "edit", text, seed))
                arm_of[wanted[-1].name] = f"{kind} {count}"
    trials = bench.try_all(wanted)
    by_id = {t.id: t for t in tasks}
    verdicts = [v for t in trials for v in bench.domain.verdicts(by_id[t.task], t.candidate, t.answers, bench.grader)]
    measured = measure([bench.attempt(w).candidate for w in wanted], trials, verdicts, bench.grader.name)
    table = Table("notes", "facts", title=f"{len(tasks)} people, {given.seeds} seeds")
    names = ("accuracy", "likelihood", "contrast")
    for column in ("trials", "right", "log-probability of a right token", "contrast"):
        table.add_column(column, justify="right")
    for kind, count in [(UNTRAINED, ""), *arms]:
        own = [m for m in measured if m.edit and arm_of[m.edit] == f"{kind} {count}".strip()]
        cells = [[v for m in own if (v := getattr(m, name)) is not None] for name in names]
        table.add_row(kind, str(count), str(len(own)), *(f"{np.mean(c):.3f}" if c else "-" for c in cells))
    Console(width=120).print(table, f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()

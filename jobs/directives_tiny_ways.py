"""What each directive is worth in the tiny world of directives: edits trained on as the rounds do, and questioned.

    python jobs/directives_tiny_ways.py [--people 32] [--edits 12]

No policy writes here: the edits are those that the model was trained to write, every directive drawn evenly. A row is
the mean over the edits that have this value, whatever else they chose. What the rounds of `directives-tiny.yaml` can
gain is the distance from the mean of all, which the model begins with, to the last row.
"""

import argparse
import json
import time
from collections import defaultdict
from typing import Any

import numpy as np
from directives_tiny_model import FACTS, JOB, edit, offered
from knowledge_tiny_tasks import HELD_OUT, PEOPLE, kind_of, people
from rich.console import Console
from rich.table import Table
from trial_bench import TrialBench, Wanted

from seal_ray import config_file
from seal_ray.domains.base import Rejected
from seal_ray.domains.text_directives import read_directives_and_text
from seal_ray.grading.measure import measure
from seal_ray.records import Failure, derive_seed

BEST: dict[str, Any] = {"objective": "answers", "learning_rate": 3e-3, "epochs": 8, "count": 4, "kind": "question"}
FIELDS = ("objective", "learning_rate", "epochs", "passage", "count")


def values_of(content: Any) -> list[str]:
    """The rows that an edit belongs to."""
    return [*(f"{name} {content[name]}" for name in FIELDS), f"text {kind_of(content['text'])}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="what each directive is worth")
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--edits", type=int, default=12, help="of a person")
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    given = parser.parse_args()
    began, bench = time.monotonic(), TrialBench(config_file.load(JOB, given.set))
    everybody = {p.name: p for p in people(PEOPLE, HELD_OUT)}
    tasks = {t.id: t for t in list(bench.domain.tasks("train"))[: given.people]}
    wanted, rows, failed = list[Wanted](), defaultdict[str, list[str]](list), 0
    for task in tasks.values():
        person = everybody[task.data["title"]]
        wanted.append(Wanted(f"{task.id}/none", task, "baseline"))
        rows[wanted[-1].name] = ["no edit"]
        for number in range(given.edits + 1):
            rng = np.random.default_rng(derive_seed(task.id, "ways", number))
            best = number == given.edits
            text = edit(person, rng, **(BEST if best else {}))
            read = read_directives_and_text(text, offered(), FACTS)
            assert not isinstance(read, Failure), read
            one = Wanted(f"{task.id}/{number}", task, "edit", read.model_dump(), 0)
            try:
                bench.attempt(one)
            except Rejected:  # answers are to be learned, and there is no question
                failed += not best
                continue
            wanted.append(one)
            rows[one.name] = ["all of these"] if best else ["any", *values_of(json.loads(text))]
    trials = bench.try_all(wanted)
    verdicts = [v for t in trials for v in bench.domain.verdicts(tasks[t.task], t.candidate, t.answers, bench.grader)]
    measured = measure([bench.attempt(w).candidate for w in wanted], trials, verdicts, bench.grader.name)
    table = Table("edits", title=f"{len(tasks)} people; {failed / len(tasks) / given.edits:.0%} of edits fail")
    for column in ("trials", "right", "log-probability of a right token"):
        table.add_column(column, justify="right")
    every = {name for own in rows.values() for name in own}
    for name in ["no edit", "any", *sorted(every - {"no edit", "any", "all of these"}), "all of these"]:
        own = [m for m in measured if m.edit and name in rows[m.edit]]
        cells = [[v for m in own if (v := getattr(m, what)) is not None] for what in ("accuracy", "likelihood")]
        table.add_row(name, str(len(own)), *(f"{np.mean(c):.3f}" if c else "-" for c in cells))
    Console(width=100).print(table, f"all of these: {json.dumps(BEST)}")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()

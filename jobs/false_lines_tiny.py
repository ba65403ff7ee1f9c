"""What false lines in an edit cost, and what the check of lines gives back, in the tiny world of knowledge.

    python jobs/false_lines_tiny.py [--people 24] [--seeds 2]

Notes of an invented person, one line a fact, are tried as they are, with another home in the place of the right one
(homes are the world's only names; the check looks up names and numbers), and without the lines that the check finds.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from false_lines import ARMS, Planted
from knowledge_tiny_tasks import FACTS, HELD_OUT, PEOPLE, PLACES, RELATIONS, notes, people
from rich.console import Console
from rich.table import Table
from trial_bench import TrialBench, Wanted
from truth_figures import over_tasks

from seal_ray import config_file
from seal_ray.loops.probing.support import supported_texts
from seal_ray.records import Task, Verdict, derive_seed

JOB = Path(__file__).parent / "knowledge-tiny.yaml"
NOTES = ("question", "statement")  # kinds of notes that teach
HOME = RELATIONS[0].question


def main() -> None:
    parser = argparse.ArgumentParser(description="what false lines cost, and what the check gives back")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    began, bench = time.monotonic(), TrialBench(config_file.load(JOB, []))
    tasks = list(bench.domain.tasks("train"))[: given.people]
    parts = []
    for kind in NOTES:
        planted = planted_notes(tasks, kind)
        wanted = [
            Wanted(f"{task.id}/{kind}/{arm}/{seed}", task, "edit", "\n".join(planted[task.id].lines(arm)), seed)
            for task in tasks
            for arm in ARMS
            for seed in range(given.seeds)
        ]
        by_id = {t.id: t for t in tasks}
        verdicts = [
            (trial.candidate.split("/")[-2], by_id[trial.task], v)
            for trial in bench.try_all(wanted)
            for v in bench.domain.verdicts(by_id[trial.task], trial.candidate, trial.answers, bench.grader)
        ]
        parts.append(_table(kind, list(planted.values()), verdicts))
    spent = f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU"
    Console(width=120).print(*parts, spent)


def planted_notes(tasks: Sequence[Task], kind: str) -> dict[str, Planted]:
    """By task, notes of every fact with a false home."""
    everybody = {p.name: p for p in people(PEOPLE, HELD_OUT)}
    made = {}
    for task in tasks:
        person, luck = everybody[task.data["title"]], np.random.default_rng(derive_seed(task.id, kind))
        clean = notes(person, kind, luck, FACTS).split("\n")
        place, home = next((n, value) for n, (relation, value) in enumerate(person.facts) if relation == 0)
        false = [*clean]
        false[place] = clean[place].replace(home, str(luck.choice([p for p in PLACES if p != home])))
        kept, _ = supported_texts(false, task.data["title"], task.data["context"])
        made[task.id] = Planted(tuple(clean), tuple(false), frozenset({place}), tuple(kept))
    return made


def _table(kind: str, planted: Sequence[Planted], verdicts: Sequence[tuple[str, Task, Verdict]]) -> Table:
    found = sum(len(p.planted - set(p.kept)) for p in planted)
    lost = sum(len(set(range(len(p.false))) - p.planted - set(p.kept)) for p in planted)
    count, rest = sum(len(p.planted) for p in planted), sum(len(p.false) - len(p.planted) for p in planted)
    table = Table("right", title=f"{kind}: {found} of {count} false lines found, {lost} of {rest} others taken")
    for column in (*ARMS, "false lines cost", "the check gives back"):
        table.add_column(column, justify="right")
    for name, of_home in (("the home", True), ("the other facts", False)):
        means = rights(verdicts, of_home)
        columns = [[own[arm] for own in means] for arm in ARMS]
        clean, false, checked = (np.array(c) for c in columns)
        told = [over_tasks(list(values), 1) for values in (clean, false, checked, clean - false, checked - false)]
        table.add_row(name, *(f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in told))
    return table


def rights(verdicts: Sequence[tuple[str, Task, Verdict]], of_home: bool) -> list[dict[str, float]]:
    """For each task the share of right answers by arm, to the question about the home or to the others."""
    by_task: dict[str, dict[str, list[float]]] = {}
    for arm, task, verdict in verdicts:
        asked = task.data["questions"][int(verdict.question.rpartition("#")[2])]["question"]
        if (asked == HOME.format(n=task.data["title"])) == of_home and not verdict.failure:
            by_task.setdefault(task.id, {}).setdefault(arm, []).append(float(bool(verdict.correct)))
    return [{arm: float(np.mean(v)) for arm, v in own.items()} for own in by_task.values() if set(own) == set(ARMS)]


if __name__ == "__main__":
    main()

"""Which reward chooses edits that are right? The edits of a recorded round, tried with many seeds.

    python jobs/reward_truth.py runs/curves/knowledge/learning-1 --tasks 12 --seeds 23     goes on where it stopped
    python jobs/reward_truth.py runs/curves/knowledge/learning-1 --show                    what is known by now
    python jobs/reward_truth.py --published published_edits_dev.json                       edits that were published

The truth of an edit is the share of questions that are answered right after training on it, as a mean over seeds that
the choice has not seen. For each measure: how reliable it is at 1, 2 and 3 repeats, how it ranks the edits of a task
beside the truth, the truth of the edit that it chooses, and what is lost on a fresh seed; with bootstrap over tasks.
Any run will do whose first round was written by version 0, or a file of passages with edits by several authors. What
heats and the model of gain save is worked out from the same trials.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trial_bench import TrialBench, Wanted, domain_of
from truth_figures import HEAT, Tried, report

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.domains import Teller
from seal_ray.loops.evaluation import edits_from_file
from seal_ray.loops.exploring.gain_features import features_of
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.records import Edit, Likelihood, Task, Trial

BASE = Path(__file__).parents[1] / "seal_ray/demo/quickstart.yaml"  # its model, and what fits that
SETTINGS = (
    "domain.validation=0",
    "domain.test=0",
    "domain.style=none",
    "domain.template=''",
    "domain.max_texts=30",
    "domain.distractors=8",
    "grading.reward=blend",
    "grading.blend_of=contrast",
    "inner.lr=1.0e-3",
)
WAVE = 48  # trials between two lines of the file


@dataclass(frozen=True)
class Source:
    """Tasks with edits that were all written before anything was learned, and the settings that they are tried with."""

    config: Config
    tasks: tuple[Task, ...]
    edits: tuple[Edit, ...]


def of_run(uri: str, number: int) -> Source:
    run = Run(uri)
    round_ = run.round(number)
    if not round_.version or round_.version.number:
        raise SystemExit(f"{uri}: round {number} was not written by version 0")
    return Source(run.config, round_.tasks, round_.edits)


def of_file(published: Path, beside: Path, passages: int, changes: list[str]) -> Source:
    """The shortest passages of which everybody wrote an edit, with all of these."""
    rows = json.loads(published.read_text())
    authors = sorted(set.union(*(set(row["edits"]) for row in rows)))
    whole = sorted((r for r in rows if set(authors) <= set(r["edits"])), key=lambda r: len(r["context"]))[:passages]
    if len(whole) < passages:
        raise SystemExit(f"{published}: {len(whole)} passages have edits of {authors}; ask for as many --tasks")
    beside.parent.mkdir(parents=True, exist_ok=True)
    data = beside.with_suffix(".passages.json").resolve()
    part = data.with_suffix(f".{os.getpid()}.part")  # another of these may be reading it
    part.write_text(json.dumps([r | {"edits": {"all": [r["edits"][a] for a in authors]}} for r in whole], indent=1))
    part.replace(data)
    config = config_file.load(BASE, [*SETTINGS, f"domain.data={data}", *changes])
    domain, version = domain_of(config), versions.first("")
    tasks = tuple(domain.tasks("train"))[:passages]
    return Source(config, tasks, edits_from_file(domain, config.storage, f"{data}#all", tasks, version))


def wanted(source: Source, tasks: int, edits: int, seeds: Sequence[int], heats: int) -> Iterator[Wanted]:
    """Seed by seed, so that whatever is there when time is up is a whole experiment of fewer seeds."""
    chosen = _chosen(source, tasks, edits)
    for task, _ in chosen:
        yield Wanted(f"{task.id}|baseline|0", task, "baseline")
    for seed in seeds:
        for task, own in chosen:
            for edit in own:
                yield Wanted(f"{task.id}|{edit.id}|{seed}", task, "edit", edit.content, seed)
                if seed < heats:
                    yield Wanted(f"{task.id}|{edit.id}|{seed}|heat", task, "edit", edit.content, seed, HEAT)


def _chosen(source: Source, tasks: int, edits: int) -> list[tuple[Task, list[Edit]]]:
    found = []
    for task in source.tasks[:tasks]:
        own = sorted((e for e in source.edits if e.task == task.id and not e.failure), key=lambda e: e.slot)
        if len(own) > 1:
            found.append((task, own[:edits]))
    return found


def line(trial: Trial, accuracies: Sequence[float]) -> dict[str, Any]:
    return {
        "name": trial.candidate,
        "task": trial.task,
        "accuracy": statistics.fmean(accuracies) if accuracies else None,
        "samples": accuracies,
        "gold": _by_question(trial.likelihoods),
        "wrong": _by_question(trial.distractors),
        "steps": trial.cost.steps,
        "failure": trial.failure.kind if trial.failure else None,
    }


def _by_question(likelihoods: tuple[Likelihood, ...]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for one in likelihoods:
        found.setdefault(one.question, []).append([round(one.logprob, 5), one.tokens])
    return found


def read(path: Path, features: dict[str, dict[str, float]], samples: int = 0) -> list[Tried]:
    lines = [json.loads(text) for text in _lines(path)]
    return [Tried.of(one, features, samples) for one in lines if not one["failure"]]


def main() -> None:
    parser = argparse.ArgumentParser(description="which reward chooses edits that are right")
    parser.add_argument("uri", nargs="?", help="a run whose first round was written by version 0")
    parser.add_argument("--published", type=Path, help="in its place: published_edits_dev.json, or a file of its form")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="with --published: override a key")
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--edits", type=int, default=6, help="of a task, at most")
    parser.add_argument("--seeds", type=int, default=23, help="3 to choose by, 20 for the truth")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with: several of these may share a file")
    parser.add_argument("--heats", type=int, default=3, help="seeds that are tried for a quarter of the epochs as well")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many; the same command goes on")
    parser.add_argument("--samples", type=int, default=0, help="count so many of the sampled answers; 0: all")
    parser.add_argument("--show", action="store_true", help="try nothing more")
    parser.add_argument("--to", type=Path, default=Path("runs/truth.jsonl"))
    given = parser.parse_args()
    if bool(given.uri) == bool(given.published):
        parser.error("give a run, or --published")
    if given.published:
        source = of_file(given.published, given.to, given.tasks, given.changes)
    else:
        source = of_run(given.uri, given.round)
    waiting: list[Wanted] = []
    if not given.show:
        began, bench = time.monotonic(), TrialBench(source.config)
        known = {one["name"] for text in _lines(given.to) if (one := json.loads(text))}
        seeds = range(given.first, given.seeds)
        waiting = [w for w in wanted(source, given.tasks, given.edits, seeds, given.heats) if w.name not in known]
        given.to.parent.mkdir(parents=True, exist_ok=True)
        size = max(WAVE, source.config.inner.wave)
        while waiting and (not given.minutes or time.monotonic() - began < 60 * given.minutes):
            wave, waiting = waiting[:size], waiting[size:]
            trials = bench.try_all(wave)
            with given.to.open("ab", buffering=0) as file:  # at once: others may be writing to it
                tried = [line(t, bench.accuracies(w.task, t)) for w, t in zip(wave, trials, strict=True)]
                file.write("".join(json.dumps(one) + "\n" for one in tried).encode())
            print(f"{len(waiting)} trials are left, {time.monotonic() - began:.0f} s", flush=True)
    teller = Teller.of(source.config)
    features: dict[str, dict[str, float]] = {}
    for task in source.tasks:
        features |= features_of([e for e in source.edits if e.task == task.id], teller.describe(task))
    print(*report(read(given.to, features, given.samples)), sep="\n")
    if waiting:
        raise SystemExit(f"{len(waiting)} trials are left; the same command goes on")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()

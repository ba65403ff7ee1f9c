"""Does it learn? Runs of a tiny world with several seeds, beside controls that must not learn, and what came of them.

    python jobs/learning_curves.py run knowledge     3 seeds, with rewards and with shuffled ones; goes on if stopped
    python jobs/learning_curves.py run knowledge --arms weighted pairs grpo fresh
    python jobs/learning_curves.py show knowledge    a table, runs/curves/knowledge.json, and a picture

Each is a run of the world's configuration with what its arm changes, so whatever is said here can be looked up in its
ledger. They are done without a cluster (see `one_process_crew.py`); `seal-ray run` with the same settings is the other
way. The world's model is made first: see the configuration's own words.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import knowledge_tiny_tasks
import math_tiny_tasks
import numpy as np
from one_process_crew import OneProcessCrew, update

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.errors import Interrupted
from seal_ray.loops import rounds
from seal_ray.loops.history import Round, Run
from seal_ray.loops.session import Session
from seal_ray.observe.curve_picture import Panel, picture
from seal_ray.records import Edit, derive_seed
from seal_ray.storage.ledger import Ledger

HERE = Path(__file__).parent
SAMPLES = 10_000
ARMS = {
    "learning": [],  # rest_em
    "shuffled": ["select.control=shuffled"],
    "weighted": ["select.algorithm=weighted"],
    "pairs": ["select.algorithm=pairs"],
    "grpo": ["select.algorithm=grpo"],
    "fresh": ["policy.fresh=true"],
}
Traits = Callable[[Edit], Mapping[str, float]]


def _notes(edit: Edit) -> dict[str, float]:
    kind = knowledge_tiny_tasks.kind_of(edit.text)
    lines = len([line for line in edit.text.split("\n") if line.strip()])
    return {k: float(k == kind) for k in ("question", "statement", "reverse", "vague", "other")} | {"lines": lines}


def _text_directives(edit: Edit) -> dict[str, float]:
    content = edit.content if isinstance(edit.content, dict) else {}
    kind = knowledge_tiny_tasks.kind_of(str(content.get("text", "")))
    chosen = {k: float(content.get(k, 0)) for k in ("learning_rate", "epochs", "count", "passage")}
    kinds = {"question": kind == "question", "statement": kind == "statement", "reverse": kind == "reverse"}
    return {**chosen, **kinds, "answers": float(content.get("objective") == "answers")}


def _directives(edit: Edit) -> dict[str, float]:
    content = edit.content if isinstance(edit.content, dict) else {}
    flags = {
        k: float(content[k]) for k in ("basic", "size", "chain", "repeat", "learning_rate", "epochs") if k in content
    }
    return flags | {"output": float(content.get("loss") == "output")}


def _examples(edit: Edit) -> dict[str, float]:
    rule = edit.task.split("-is-", 1)[1].rsplit("-", 1)[0].replace("-", " ")
    own, true = math_tiny_tasks.way_of(edit.text, rule)
    return {way: float(way == own) for way in ("many", "few", "untrue", "same", "other")} | {"true": true}


def _facts(edit: Edit) -> dict[str, float]:
    lines = [line for line in edit.text.split("\n") if line.strip()]
    words = len(edit.text.split())
    return {"lines": len(lines), "words a line": words / max(1, len(lines)), "cut off": float(edit.finish == "length")}


@dataclass(frozen=True)
class World:
    job: str
    changes: tuple[str, ...]
    traits: Traits


WORLDS = {
    "knowledge": World("knowledge-tiny.yaml", (), _notes),
    "mathematics": World("math-tiny.yaml", (), _examples),
    # see one_process_crew.py; what it writes can be read all the same
    "directives": World("directives-tiny.yaml", ("domain.directives.constrained=false",), _text_directives),
    "arc": World(
        "arc-tiny.yaml",
        (
            "run.rounds=5",
            "run.tasks_per_round=10",
            "domain.constrained=false",  # see one_process_crew.py; what it writes can be read all the same
            "domain.max_steps=120",
            "domain.max_examples=40",
            "inner.context_arm=false",
            "sampling.edits=5",
            "sampling.max_tokens=256",  # no engine cuts the default to what the context leaves
            "select.rule=top_k",
            "select.top_k=2",
            "policy.lr=3.0e-3",
            "policy.epochs=6",
            "evaluation.every=5",
            "evaluation.tasks=24",
            "evaluation.edits=2",
            "placement.worker_cpus=1",
            "placement.trainer_cpus=1",
        ),
        _directives,
    ),
    # SmolLM2 and passages of your own: --set domain.data=squad_dev.json, or another file of its form
    "passages": World(
        "../seal_ray/demo/quickstart.yaml",
        (
            "run.rounds=2",
            "run.tasks_per_round=40",
            "domain.max_texts=12",
            "domain.validation=0",
            "domain.test=0.3",
            "sampling.edits=5",
            "sampling.top_p=1",
            "sampling.max_tokens=128",
            "sampling.chunk=40",
            "inner.context_arm=false",
            "evaluation.every=2",
            "evaluation.tasks=40",
            "evaluation.edits=4",
            "policy.lr=5.0e-4",
            "policy.epochs=4",
            "policy.global_batch=4",
        ),
        _facts,
    ),
}


# runs


def run(to: Path, world: str, arms: Sequence[str], seeds: Sequence[int], more: Sequence[str], minutes: float) -> bool:
    """All of them, one after the other, seed by seed; those that are whole are passed over. Whether all are whole."""
    crew, until = OneProcessCrew(), time.monotonic() + 60 * (minutes or math.inf)
    rounds.update = update  # where Ray would place it
    try:
        for seed in seeds:
            for arm in arms:
                config = configuration(to, world, arm, seed, more)
                if not _whole(config):
                    began = time.monotonic()
                    with Session(config, stop=lambda: time.monotonic() > until, hire=crew.hire) as session:  # type: ignore[arg-type]
                        rounds.run_rounds(session)
                    print(f"{world} {arm} {seed}: {time.monotonic() - began:.0f} s", flush=True)
    except Interrupted:
        return False
    return True


def configuration(to: Path, world: str, arm: str, seed: int, more: Sequence[str] = ()) -> Config:
    chosen = WORLDS[world]
    own = [
        f"run.uri={to}/{world}/{arm}-{seed}",
        f"run.seed={seed}",
        "observe.progress=plain",
        "observe.ray_metrics=false",
    ]
    return config_file.load(HERE / chosen.job, [*chosen.changes, *ARMS[arm], *own, *more])


def _whole(config: Config) -> bool:
    ledger = Ledger(config.run.uri, config.storage, read_only=True)
    return ledger.exists() and ledger.latest() >= config.run.rounds


# what came of them


def read(to: Path, world: str) -> list[dict[str, Any]]:
    """The curves of all runs that are there, as plain data."""
    found = []
    for folder in sorted((to / world).glob("*-*")):
        arm, _, seed = folder.name.rpartition("-")
        if not (folder / "run.json").exists():
            continue
        done = Run(str(folder))
        points = done.curve()
        rounds = [_round(one, WORLDS[world].traits) for one in done.rounds() if one.rewards]
        found.append({"arm": arm, "seed": int(seed), "points": points, "rounds": rounds})
    return found


def _round(one: Round, traits: Traits) -> dict[str, Any]:
    """What a round says of the version that wrote its edits, and of the update that followed."""
    own = {t.id for t in one.tasks}
    edits = [e for e in one.edits if e.task in own]
    rewards, update = one.rewards or {}, one.update or {}
    every = [traits(e) for e in edits if not e.failure]
    means = {k: statistics.fmean(t.get(k, 0.0) for t in every) for k in (every[0] if every else {})}
    gains = [r["raw"]["mean"] for r in rewards["rewards"]]
    return {
        "round": one.number,
        "gain": statistics.fmean(gains) if gains else None,
        "failed": sum(e.failure is not None for e in edits) / max(1, len(edits)),
        **{k: rewards.get(k) for k in ("diversity", "agreement")},
        **{k: update.get(k) for k in ("kl", "drift", "entropy", "entropy_before", "steps")},
        "traits": means,
    }


def rise(points: Sequence[Mapping[str, Any]], measure: str, last: int = -1) -> dict[str, float]:
    """By task, how much the mean edit of the last version is above that of the first."""
    first, then = points[0]["by_task"], points[last]["by_task"]
    both = [t for t in first if t in then and measure in first[t] and measure in then[t]]
    return {t: then[t][measure] - first[t][measure] for t in both}


def interval(rises: Sequence[Mapping[str, float]], seed: int = 1) -> tuple[float, float, float]:
    """The mean over runs with its interval: runs are drawn anew, and tasks within each."""
    own = [np.array(list(r.values())) for r in rises if r]
    random = np.random.default_rng(derive_seed("curves", seed))
    means = []
    for _ in range(SAMPLES // 10 if len(own) > 8 else SAMPLES):
        drawn = random.integers(0, len(own), len(own))
        means.append(np.mean([own[i][random.integers(0, len(own[i]), len(own[i]))].mean() for i in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([o.mean() for o in own])), float(low), float(high)


def table(runs: Sequence[Mapping[str, Any]], measure: str = "accuracy") -> list[str]:
    """A line for each arm in Markdown: before, after the rounds of each look, and the rise with its interval."""
    afters = looks(runs)
    if len(afters) < 2:
        return ["no run has looked at held-out tasks twice"]
    lines = [
        f"| arm | seeds | {' | '.join(f'after {n}' if n else 'before' for n in afters)} | rise | interval |",
        "| --- | ---: |" + " ---: |" * (len(afters) + 2),
    ]
    for arm in ARMS:
        curves = [points for r in runs if r["arm"] == arm and (points := _seen(r, afters))]
        own = [(points, risen) for points in curves if (risen := rise(points, measure))]
        if not own:
            continue
        cells = [_mean([_at(points[n], measure, risen) for points, risen in own]) for n in range(len(afters))]
        mean, low, high = interval([risen for _, risen in own])
        between = f"{low:+.3f} to {high:+.3f}"
        line = f"| {arm} | {len(own)} | {' | '.join(cells)} | {mean:+.3f} | {between} |"
        lines.append(line.replace("-0.000", "+0.000"))
    if both := over_control(runs, measure):
        mean, low, high = interval(both)
        between = f"{low:+.3f} to {high:+.3f}"
        lines.append(f"| learning over shuffled | {len(both)} |{'  |' * len(afters)} {mean:+.3f} | {between} |")
    return lines


def over_control(runs: Sequence[Mapping[str, Any]], measure: str) -> list[dict[str, float]]:
    """For each seed of which both runs are whole: by task, how much more the mean edit rises than in the control."""
    afters = looks(runs)
    seen = {(r["arm"], r["seed"]): points for r in runs if len(points := _seen(r, afters)) > 1}
    rises = {run: rise(points, measure) for run, points in seen.items()}
    both = [(own, rises.get(("shuffled", seed))) for (arm, seed), own in rises.items() if arm == "learning"]
    over = [{t: own[t] - control[t] for t in own if t in control} for own, control in both if control]
    return [own for own in over if own]


def looks(runs: Sequence[Mapping[str, Any]]) -> list[int]:
    """After how many rounds every run was looked at that goes as far as the last one."""
    afters = [{p["after"] for p in r["points"]} for r in runs]
    last = max((n for own in afters for n in own), default=0)
    return sorted(set.intersection(*whole)) if (whole := [own for own in afters if last in own]) else []


def _seen(run: Mapping[str, Any], afters: Sequence[int]) -> list[Mapping[str, Any]]:
    """The run's points after so many rounds; none where it lacks one, since it was stopped."""
    points = [p for p in run["points"] if p["after"] in afters]
    return points if len(points) == len(afters) else []


def _at(point: Mapping[str, Any], measure: str, tasks: Collection[str]) -> float:
    values = [own[measure] for task, own in point["by_task"].items() if task in tasks and measure in own]
    return statistics.fmean(values) if values else float("nan")


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}"


def by_round(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """How policies move: by arm and round the means over seeds."""
    names = ("gain", "kl", "entropy", "diversity", "agreement", "failed")
    kinds = sorted({k for r in runs for one in r["rounds"] for k in one["traits"]})
    lines = [f"| arm | round | {' | '.join((*names, *kinds))} |", "| --- |" + " ---: |" * (1 + len(names) + len(kinds))]
    for arm in ARMS:
        own = [r for r in runs if r["arm"] == arm]
        for number in range(1, max((len(r["rounds"]) for r in own), default=0) + 1):
            rows = [one for r in own for one in r["rounds"] if one["round"] == number]
            cells = [[row[name] for row in rows if row[name] is not None] for name in names]
            cells += [[row["traits"].get(k, 0.0) for row in rows] for k in kinds]
            lines.append(f"| {arm} | {number} | " + " | ".join(_mean(c) if c else "" for c in cells) + " |")
    return lines


def panel(title: str, runs: Sequence[Mapping[str, Any]], measure: str) -> Panel:
    arms = [a for a in ARMS if any(r["arm"] == a for r in runs)]

    def curve(run: Mapping[str, Any]) -> dict[int, float]:
        values = {p["after"]: _at(p, measure, p["by_task"]) for p in run["points"]}
        return {after: value for after, value in values.items() if not math.isnan(value)}

    return Panel(title, {a: [curve(r) for r in runs if r["arm"] == a] for a in arms})


def main() -> None:
    parser = argparse.ArgumentParser(description="learning curves of the tiny worlds")
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("worlds", nargs="+", choices=list(WORLDS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["learning", "shuffled"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--to", type=Path, default=Path("runs/curves"), help="folder of the runs")
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many; the same command goes on")
    parser.add_argument("--picture", type=Path, help="with show: where to draw it; default: beside the runs")
    given = parser.parse_args()
    panels, whole = list[Panel](), True
    for world in given.worlds:
        if given.what == "run":
            whole = run(given.to, world, given.arms, given.seeds, given.set, given.minutes) and whole
        runs = read(given.to, world)
        (given.to / f"{world}.json").write_text(json.dumps(runs, indent=1) + "\n")
        for measure in ("accuracy", "likelihood", "gain"):
            print(f"\n{world}: {measure} of the mean edit on held-out tasks\n", *table(runs, measure), sep="\n")
        print(f"\n{world}: by round\n", *by_round(runs), sep="\n", flush=True)
        panels.append(panel(f"{world}: held-out tasks answered right", runs, "accuracy"))
    (given.picture or given.to / "curves.svg").write_text(picture(panels))
    if not whole:
        raise SystemExit("stopped before all runs were whole; the same command goes on")


if __name__ == "__main__":
    main()

"""What many seeds say about rewards: reliability, rank beside the truth, truth of what is chosen, with intervals."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seal_ray.grading.gain_model import GainModel, TriedEdit, fit, predict
from seal_ray.grading.variance import components

HEAT = 0.25  # of the epochs
KEEP, PRUNE = 0.33, 0.5  # shares of a task's edits: that go on after a heat, that a model of gain drops
CHOOSING = 3  # seeds by which edits are chosen, one at a time, where none was tried in a heat
SAMPLES = 4000
Values = dict[str, dict[str, dict[int, float]]]  # by task, edit and seed


@dataclass(frozen=True)
class Tried:
    """One trial of an edit; of a baseline where `edit` is that word."""

    task: str
    edit: str
    seed: int
    heat: bool
    accuracy: float
    gold: Mapping[str, Sequence[Sequence[float]]]  # by question: log-probability and tokens of each accepted answer
    wrong: Mapping[str, Sequence[Sequence[float]]]
    steps: int
    features: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, line: Mapping[str, Any], features: Mapping[str, Mapping[str, float]], samples: int = 0) -> "Tried":
        _, edit, seed, *more = line["name"].rsplit("|", 3 if line["name"].endswith("|heat") else 2)
        counted = line.get("samples", [])[:samples]
        accuracy = statistics.fmean(counted) if counted else line["accuracy"]
        numbers = (accuracy, line["gold"], line["wrong"], line["steps"])
        return cls(line["task"], edit, int(seed), bool(more), *numbers, features.get(edit, {}))


def measures(trial: Tried, base: Tried) -> dict[str, float]:
    """Every measure of one trial, as means over the questions that have it: not every one has wrong answers."""
    rows = [_question(trial, base, q) for q in trial.gold if q in base.gold]
    names = sorted({n for r in rows for n in r})
    return {"accuracy": trial.accuracy} | {n: statistics.fmean(r[n] for r in rows if n in r) for n in names}


def _question(trial: Tried, base: Tried, q: str) -> dict[str, float]:
    def gains(own: Sequence[Sequence[float]], before: Sequence[Sequence[float]], *, each: bool) -> list[float]:
        pairs = zip(own, before, strict=True)
        return [(a[0] - b[0]) / (a[1] if each else 1) for a, b in pairs]

    found = {"likelihood": max(p / n for p, n in trial.gold[q])}
    wrong, wrong_before = trial.wrong.get(q, ()), base.wrong.get(q, ())
    if wrong and len(wrong) == len(wrong_before):
        by_token = gains(wrong, wrong_before, each=True)
        found["contrast"] = max(gains(trial.gold[q], base.gold[q], each=True)) - statistics.fmean(by_token)
        right, others = max(gains(trial.gold[q], base.gold[q], each=False)), gains(wrong, wrong_before, each=False)
        found["contrast, sums"] = right - statistics.fmean(others)
        top = max(right, *others)
        found["contrast, softmax"] = math.exp(right - top) / sum(math.exp(v - top) for v in (right, *others))
        found["contrast, wins"] = float(right > max(others))
    return found


def tabulate(trials: Sequence[Tried], *, heat: bool = False) -> dict[str, Values]:
    """By measure, with blends of accuracy beside each."""
    base = {t.task: t for t in trials if t.edit == "baseline"}
    tables: dict[str, Values] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for t in trials:
        if t.edit != "baseline" and t.heat == heat and t.task in base:
            for name, value in measures(t, base[t.task]).items():
                tables[name][t.task][t.edit][t.seed] = value
    return {n: _plain(v) for n, v in tables.items()} | {
        f"accuracy + {n}": _blend(tables["accuracy"], tables[n]) for n in tables if n != "accuracy"
    }


def _plain(values: Values) -> Values:
    return {task: {edit: dict(seeds) for edit, seeds in own.items()} for task, own in values.items()}


def _blend(accuracy: Values, other: Values) -> Values:
    """Half of each, after the other is put on accuracy's scale, as the reward does it."""

    def spread(values: Values) -> float:
        apart = [v - statistics.fmean(e.values()) for own in values.values() for e in _by_seed(own) for v in e.values()]
        return math.sqrt(statistics.fmean(a * a for a in apart)) if apart else 0.0

    scale = (spread(accuracy) or 1.0) / (spread(other) or 1.0)
    return {
        task: {e: {s: (v + scale * other[task][e][s]) / 2 for s, v in seeds.items()} for e, seeds in own.items()}
        for task, own in accuracy.items()
        if task in other
    }


def _by_seed(own: Mapping[str, Mapping[int, float]]) -> list[dict[str, float]]:
    seeds = sorted({s for e in own.values() for s in e})
    return [{e: v[s] for e, v in own.items() if s in v} for s in seeds]


# what is chosen


def mean_over(own: Mapping[str, Mapping[int, float]], seeds: Sequence[int]) -> dict[str, float]:
    """By edit, over those of the seeds that it has; edits without any are left out."""
    return {e: statistics.fmean(v[s] for s in seeds if s in v) for e, v in own.items() if any(s in v for s in seeds)}


def shared(own: Mapping[str, Mapping[int, float]]) -> list[int]:
    """The seeds that every edit has: where the trials were stopped or one failed, only some edits have a seed."""
    return sorted(set.intersection(*map(set, own.values()))) if own else []


@dataclass(frozen=True)
class ChoiceQuality:
    """How choosing by a measure did on one task, as means over the blocks of seeds that it was chosen by."""

    truth: float
    mean: float  # truth of the mean edit
    best: float  # of the truly best
    lost: float  # accuracy on the seeds that it was chosen by, minus the truth
    lost_shrunk: float  # the same where it is drawn towards its task's mean as far as it is chance, as rewards are
    rank: float | None  # Spearman's correlation with the truth


def choices(measure: Values, accuracy: Values, repeats: int) -> dict[str, ChoiceQuality]:
    """By task. Blocks of so many seeds choose, all other seeds say how good the choice was."""
    found: dict[str, ChoiceQuality] = {}
    parts = components(list(accuracy.values()))
    trust = parts.reliability(repeats) if parts else 1.0
    for task, own in measure.items():
        every = shared(own)
        rows = []
        for start in range(0, len(every) - len(every) % repeats, repeats):
            block = every[start : start + repeats]
            others = [s for s in every if s not in block]
            said, truth = mean_over(own, block), mean_over(accuracy[task], others)
            both = sorted(e for e in said if e in truth)
            if len(both) < 2:
                continue
            chosen = max(both, key=lambda e: (said[e], e))
            seen = mean_over({e: accuracy[task][e] for e in both}, block)
            shrunk = (1 - trust) * statistics.fmean(seen.values()) + trust * seen[chosen]
            rank = spearman([said[e] for e in both], [truth[e] for e in both])
            values = [truth[e] for e in both]
            mean, lost = statistics.fmean(values), (seen[chosen] - truth[chosen], shrunk - truth[chosen])
            rows.append(ChoiceQuality(truth[chosen], mean, max(values), *lost, rank))
        if rows:
            found[task] = _averaged(rows)
    return found


def _averaged(rows: Sequence[ChoiceQuality]) -> ChoiceQuality:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(r, name) for r in rows)

    ranks = [r.rank for r in rows if r.rank is not None]
    rank = statistics.fmean(ranks) if ranks else None
    return ChoiceQuality(mean("truth"), mean("mean"), mean("best"), mean("lost"), mean("lost_shrunk"), rank)


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    a, b = _ranks(one), _ranks(other)
    size = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / size) if size > 0 else None


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.array(values)
    ranks = np.array([((array < v).sum() + (array <= v).sum() - 1) / 2 for v in array])
    return ranks - ranks.mean()


def over_tasks(values: Sequence[float], seed: int = 1) -> tuple[float, float, float]:
    """The mean with its bootstrap interval over tasks."""
    array = np.array(values)
    draws = np.random.default_rng(seed).integers(0, len(array), (SAMPLES, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


# what is saved


@dataclass(frozen=True)
class Picked:
    """A task's edits of which a heat is run, and those that are tried in full."""

    heated: set[str]
    full: set[str]


Pick = Callable[[str, dict[str, float]], Picked]  # by task, from what the heats of its edits would say


@dataclass(frozen=True)
class Saving:
    """Choosing among fewer edits: the share of the optimiser steps that it takes, and the truth of what it chooses."""

    steps: float
    truth: dict[str, float]  # by task
    all_tried: dict[str, float]  # of what is chosen where all are tried


def saved(trials: Sequence[Tried], measure: str, pick: Pick) -> Saving:
    """What choosing among fewer edits takes, and what comes of it."""
    full, heat = tabulate(trials)[measure], tabulate(trials, heat=True).get(measure, {})
    accuracy = tabulate(trials)["accuracy"]
    steps = {(t.task, t.edit, t.seed, t.heat): t.steps for t in trials}
    spent, whole = 0, 0
    truth, all_tried = {}, {}
    for task, own in full.items():
        every = set(shared(own))
        seeds = [s for s in shared(heat.get(task, {})) if s in every] if heat else sorted(every)[:CHOOSING]
        rows = []
        for seed in seeds:
            said = {e: v[seed] for e, v in own.items() if seed in v}
            # seeds of which nothing was used to choose; where all have heats, all but this one
            others = mean_over(accuracy[task], sorted(every - set(seeds) or every - {seed}))
            picked = pick(task, {e: v[seed] for e, v in heat[task].items() if seed in v} if heat else said)
            kept = picked.full & said.keys()
            if len(said) < 2 or not kept or not others:
                continue
            whole += sum(steps[task, e, seed, False] for e in said)
            spent += sum(steps[task, e, seed, False] for e in kept)
            spent += sum(steps[task, e, seed, True] for e in picked.heated)
            rows.append((others[max(kept, key=lambda e: said[e])], others[max(said, key=lambda e: said[e])]))
        if rows:
            truth[task], all_tried[task] = (statistics.fmean(r[k] for r in rows) for k in (0, 1))
    return Saving(spent / max(1, whole), truth, all_tried)


def by_heat(_task: str, heat: dict[str, float]) -> Picked:
    return Picked(set(heat), _first(heat, KEEP))


def _first(said: Mapping[str, float], share: float) -> set[str]:
    """The best of them, two at least."""
    ranked = sorted(said, key=lambda e: -said[e])
    return set(ranked[: max(2, math.ceil(share * len(ranked)))])


def by_model(trials: Sequence[Tried], measure: str) -> tuple[Pick, list[float]]:
    """Dropping by a model of gain that has never seen the task; and how it agrees with the gains, model by model."""
    full = tabulate(trials)[measure]
    features = {t.edit: t.features for t in trials}
    models: dict[str, GainModel | str] = {}
    for task in full:
        others = [(t, own) for t, own in full.items() if t != task]
        samples = [TriedEdit(t, features[e], next(iter(v.values()))) for t, own in others for e, v in own.items()]
        models[task] = fit(samples, "", measure)

    def pick(task: str, heat: dict[str, float]) -> Picked:
        model = models[task]
        if isinstance(model, str):
            return Picked(set(), set(heat))
        return Picked(set(), _first(predict(model, {e: features[e] for e in heat}), 1 - PRUNE))

    return pick, [m.agreement for m in models.values() if isinstance(m, GainModel)]


def by_both(model: Pick) -> Pick:
    """Heats among those that a model of gain leaves."""

    def pick(task: str, heat: dict[str, float]) -> Picked:
        return by_heat(task, {e: heat[e] for e in model(task, heat).full})

    return pick


# in words


def report(trials: Sequence[Tried]) -> list[str]:
    tables = tabulate(trials)
    if "accuracy" not in tables:
        return ["nothing has been tried yet"]
    accuracy = tables["accuracy"]
    seeds = len({s for own in accuracy.values() for e in own.values() for s in e})
    repeats = min(3, max(1, seeds // 2))  # that choose; the others say how good the choice was
    lines = [
        f"{len(accuracy)} tasks, {sum(map(len, accuracy.values()))} edits, {seeds} seeds",
        "",
        f"| measure | reliability at 1 | 2 | 3 | rank beside the truth | truth of the chosen (repeats: {repeats}) "
        "| over the mean edit | over accuracy + likelihood | lost on fresh seeds | of the reward itself |",
        "| --- |" + " ---: |" * 9,
    ]
    today = choices(tables.get("accuracy + likelihood", accuracy), accuracy, repeats)
    for name, table in tables.items():
        found = components(list(table.values()))
        reliability = [f"{found.reliability(r):.2f}" if found else "-" for r in (1, 2, 3)]
        chosen, own = choices(table, accuracy, repeats), choices(table, table, repeats)
        tasks = sorted(t for t in chosen if t in today)
        if not tasks:
            continue
        over_mean = over_tasks([chosen[t].truth - chosen[t].mean for t in tasks])
        over_today = over_tasks([chosen[t].truth - today[t].truth for t in tasks])
        ranks = [r for t in tasks if (r := chosen[t].rank) is not None]
        lines.append(
            f"| {name} | {' | '.join(reliability)} | {f'{statistics.fmean(ranks):.2f}' if ranks else '-'} | "
            f"{statistics.fmean(chosen[t].truth for t in tasks):.3f} | "
            f"{_between(over_mean)} | {_between(over_today)} | "
            f"{100 * statistics.fmean(chosen[t].lost for t in tasks):.1f} points | "
            f"{_own(name, [own[t] for t in tasks])} |"
        )
    if today:
        best = statistics.fmean(c.best for c in today.values())
        lines += [
            "",
            f"truth of the mean edit {statistics.fmean(c.mean for c in today.values()):.3f}, of the best {best:.3f}",
        ]
    return [*lines, "", *savings(trials)]


def savings(trials: Sequence[Tried], measure: str = "") -> list[str]:
    names = tabulate(trials)
    preferred = ("accuracy + contrast, sums", "accuracy + contrast", "accuracy + likelihood")
    measure = measure or next(n for n in preferred if n in names)
    heats = any(t.heat for t in trials)
    model, agreement = by_model(trials, measure)
    lines = [f"| choosing with one repeat by {measure} | share of the steps | truth of the chosen beside trying all |"]
    lines.append("| --- | ---: | ---: |")
    for title, pick in (
        (f"heats of {HEAT:.0%} of the epochs, {KEEP:.0%} go on", by_heat if heats else None),
        (f"a model of gain fitted on the other tasks drops {PRUNE:.0%}", model),
        ("the model drops, then heats among the rest", by_both(model) if heats else None),
    ):
        if pick is None:
            continue
        found = saved(trials, measure, pick)
        if found.truth:
            apart = over_tasks([found.truth[t] - found.all_tried[t] for t in found.truth])
            lines.append(f"| {title} | {found.steps:.0%} | {_between(apart)} |")
    if agreement:
        lines += [
            "",
            f"the model's predictions and gains on tasks left out: correlation {statistics.fmean(agreement):.2f}",
        ]
    return lines


def _own(name: str, found: Sequence[ChoiceQuality]) -> str:
    """What the measure itself loses; only accuracy and what is blended with it are shares of questions."""
    if not name.startswith("accuracy"):
        return "-"
    return f"{_points([c.lost for c in found])}, {_points([c.lost_shrunk for c in found])}"


def _points(values: Sequence[float]) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * v for v in over_tasks(values)))


def _between(found: tuple[float, float, float]) -> str:
    return f"{found[0]:+.3f} ({found[1]:+.3f} to {found[2]:+.3f})"

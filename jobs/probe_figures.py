"""What `bench_probe.py` comes to: how tests that a model wrote agree with those of people, and what the checks find."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from truth_figures import over_tasks, spearman

from seal_ray.records import Json

MEASURES = ("likelihood", "accuracy")


@dataclass(frozen=True)
class Judged:
    """One trial of a passage, question by question. `edit` None: nothing was trained."""

    task: str
    edit: str | None
    repeat: int
    likely: Mapping[str, float]
    credit: Mapping[str, float]
    by_people: frozenset[str]  # questions

    def values(self, measure: str) -> Mapping[str, float]:
        return self.likely if measure == "likelihood" else self.credit


def figures(
    funnel: Mapping[str, Json], spoiled: Sequence[Mapping[str, Json]], judged: Sequence[Judged], seed: int
) -> dict[str, Json]:
    return {
        "funnel": dict(funnel),
        "coverage": round(int(funnel["sentences_asked"]) / max(1, int(funnel["sentences"])), 4),
        "surviving": surviving(funnel),
        "spoiled": found_spoiled(spoiled),
        "agreement": {m: agreement(judged, m, seed) for m in MEASURES},
        "passages": len({j.task for j in judged}),
        "edits": len({j.edit for j in judged if j.edit}),
    }


def surviving(funnel: Mapping[str, Any]) -> dict[str, float]:
    """By check, in their order: the share of the questions that came so far and passed it."""
    left, shares = int(funnel["written"]) + int(funnel["by_people"]), dict[str, float]()
    for name, lost in funnel["lost"].items():
        shares[name] = round(1 - lost / left, 4)
        left -= lost
    return shares


def found_spoiled(rows: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """Recall by what was done to a question, and precision: how many of those that failed a check had been spoiled."""
    roles = {role: [r for r in rows if r["role"] == role] for role in ("good", "false", "leak", "two")}
    failed = [r for r in rows if not r["kept"]]
    caught = {role: sum(not r["kept"] for r in own) for role, own in roles.items()}
    spoiled = sum(caught[role] for role in ("false", "leak", "two"))
    return {
        "questions": {role: len(own) for role, own in roles.items()},
        "failed": caught,
        "recall": {r: round(caught[r] / len(own), 4) for r, own in roles.items() if r != "good" and own},
        "precision": round(spoiled / len(failed), 4) if failed else None,
        "good_lost_by": dict(Counter(r["by"] for r in roles["good"] if not r["kept"])),
        "spoiled_found_by": dict(Counter(r["by"] for r in rows if r["role"] != "good" and not r["kept"])),
    }


def agreement(judged: Sequence[Judged], measure: str, seed: int) -> dict[str, Json] | None:
    """How the edits of a passage rank by both kinds of questions, and what a choice by one loses by the other.

    Beside it what can be reached: how two halves of people's questions rank them, and two training seeds.
    """
    by_task: dict[str, list[Judged]] = {}
    for one in judged:
        by_task.setdefault(one.task, []).append(one)
    ranks: dict[str, list[float]] = {"own with people": [], "halves of people": [], "seeds of people": []}
    kept, lost, chances = list[float](), list[float](), list[float]()
    for own in by_task.values():
        people = _by_edit(own, measure, people=True)
        model = _by_edit(own, measure, people=False)
        edits = sorted(people.keys() & model.keys())
        if len(edits) < 3:
            continue
        pairs = {
            "own with people": (model, people),
            "halves of people": tuple(_by_edit(own, measure, people=True, half=n) for n in (0, 1)),
            "seeds of people": tuple(_by_edit(own, measure, people=True, repeat=n) for n in (0, 1)),
        }
        for name, (one, other) in pairs.items():
            shared = [e for e in edits if e in one and e in other]
            rank = spearman([one[e] for e in shared], [other[e] for e in shared]) if len(shared) > 2 else None
            if rank is not None:
                ranks[name].append(rank)
        best, mean = max(people[e] for e in edits), statistics.fmean(people[e] for e in edits)
        top = max(model[e] for e in edits)
        chosen = statistics.fmean(people[e] for e in edits if model[e] == top)  # of several that are best, their mean
        kept.append(chosen - mean)
        lost.append(best - chosen)
        chances.append(best - mean)
    if not kept:
        return None
    spread = sum(chances)
    return {
        "passages": len(kept),
        "rank": {name: _interval(values, seed) for name, values in ranks.items() if values},
        "chosen_loses": _interval(lost, seed),
        "chance_loses": _interval(chances, seed),
        "chosen_over_mean": _interval(kept, seed),
        "share_kept": round(sum(kept) / spread, 4) if spread > 0 else None,
    }


def _by_edit(
    own: Sequence[Judged], measure: str, *, people: bool, half: int | None = None, repeat: int | None = None
) -> dict[str, float]:
    """Each edit's mean over repeats and over one kind of questions."""
    values: dict[str, list[float]] = {}
    for one in own:
        if one.edit is None or (repeat is not None and one.repeat != repeat):
            continue
        asked = sorted(q for q in one.values(measure) if (q in one.by_people) == people)
        asked = asked if half is None else asked[half::2]
        if asked:
            values.setdefault(one.edit, []).append(statistics.fmean(one.values(measure)[q] for q in asked))
    return {edit: round(statistics.fmean(each), 9) for edit, each in values.items()}


def _interval(values: Sequence[float], seed: int) -> list[float]:
    return [round(v, 4) for v in over_tasks(values, seed)]


# in words


def shown(found: Mapping[str, Any]) -> list[str]:
    funnel, spoiled = found["funnel"], found["spoiled"]
    asked = f"{funnel['sentences_asked']} of {funnel['sentences']} sentences ({found['coverage']:.0%})"
    lines = [
        f"{funnel['written']} questions written about {funnel['passages']} passages, {funnel['kept']} stood every "
        f"check; they ask about {asked}",
        "passed, of those that came so far: " + ", ".join(f"{n} {s:.0%}" for n, s in found["surviving"].items()),
        "",
        "questions of people, some spoiled: "
        + "; ".join(f"{role} {spoiled['failed'][role]} of {n} failed" for role, n in spoiled["questions"].items()),
        "recall: " + ", ".join(f"{role} {share:.0%}" for role, share in spoiled["recall"].items())
        + f"; precision {spoiled['precision']:.0%}" * (spoiled["precision"] is not None),
        f"good ones were lost by {spoiled['good_lost_by']}, spoiled ones found by {spoiled['spoiled_found_by']}",
    ]  # fmt: skip
    for measure, told in found["agreement"].items():
        if told is None:
            lines += ["", f"{measure}: no passage has edits and questions enough to compare"]
            continue
        ranks = "; ".join(f"{name} {_between(values)}" for name, values in told["rank"].items())
        lines += [
            "",
            f"{measure}, {told['passages']} passages, {found['edits']} edits",
            f"rank correlation of a passage's edits: {ranks}",
            f"what is lost to the best edit by people's questions: {_between(told['chosen_loses'])} where the model's "
            f"own choose, {_between(told['chance_loses'])} by chance",
        ]
    return lines


def _between(values: Sequence[float]) -> str:
    mean, low, high = values
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"

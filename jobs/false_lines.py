"""False lines planted in edits: what the check of lines finds of them, and what they cost where nobody looks."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe_figures import MEASURES, Judged
from truth_figures import over_tasks

from seal_ray.domains.distractors import kind_of
from seal_ray.domains.knowledge import edit_texts
from seal_ray.grading.overlap import words
from seal_ray.loops.probing.changing import changed
from seal_ray.loops.probing.prompts import answers_in
from seal_ray.loops.probing.support import supported_texts
from seal_ray.records import Json

ARMS = ("clean", "false", "checked")  # the edit as it is; with false lines; and without those that the check finds
MOST = 12  # lines of an edit


@dataclass(frozen=True)
class Planted:
    """One edit's lines in three forms."""

    clean: tuple[str, ...]
    false: tuple[str, ...]  # every second line that holds a fact has another in its place
    planted: frozenset[int]  # positions of these
    kept: tuple[int, ...]  # positions in `false` that the check leaves

    def lines(self, arm: str) -> list[str]:
        if arm == "checked":
            return [self.false[n] for n in self.kept]
        return list(self.clean if arm == "clean" else self.false)


def plant(edit: str, title: str, context: str, others: Sequence[str], seed: int) -> Planted | None:
    """None where the edit has no line with a fact, or the check leaves none. `others`: facts of other passages."""
    lines = edit_texts(edit)[:MOST]
    false, planted, holding = list[str](), set[int](), 0
    for position, line in enumerate(lines):
        made = _falsified(line, title, context, others, seed + position)
        holding += made is not None
        if made and holding % 2:
            planted.add(position)
        false.append(made if made and holding % 2 else line)
    kept, _ = supported_texts(false, title, context)
    return Planted(tuple(lines), tuple(false), frozenset(planted), tuple(kept)) if planted and kept else None


def _falsified(line: str, title: str, context: str, others: Sequence[str], seed: int) -> str | None:
    """The line with its last name, else its last number, changed into one that the passage has not."""
    there = set(words(f"{title} {context}"))
    others = [other for other in others if not set(words(other)) <= there]
    for fact in (a for a in reversed(answers_in(title, line)) if kind_of(a) != "phrase"):
        made = changed(line, fact, others, seed)
        if made and not set(words(made[1])) <= there and words(fact) and set(words(fact)) <= there:
            return made[0]
    return None


def figures(edits: Sequence[Planted], arms: Mapping[str, str], judged: Sequence[Judged], seed: int) -> dict[str, Json]:
    """`arms`: by edit, which of the three it is."""
    found = sum(len(e.planted - set(e.kept)) for e in edits)
    planted = sum(len(e.planted) for e in edits)
    dropped = sum(len(e.false) - len(e.kept) for e in edits)
    clean = sum(len(e.false) for e in edits) - planted
    return {
        "edits": len(edits),
        "planted": planted,
        "recall": round(found / planted, 4) if planted else None,
        "precision": round(found / dropped, 4) if dropped else None,
        "clean_lost": round((dropped - found) / clean, 4) if clean else None,
        "by_people": {m: _by_arm(arms, judged, m, seed) for m in MEASURES},
    }


def _by_arm(arms: Mapping[str, str], judged: Sequence[Judged], measure: str, seed: int) -> dict[str, Json]:
    by_task: dict[str, dict[str, list[float]]] = {}
    for one in judged:
        values = [v for q, v in one.values(measure).items() if q in one.by_people]
        arm = arms.get(one.edit or "", "base")
        if values:
            by_task.setdefault(one.task, {}).setdefault(arm, []).append(statistics.fmean(values))
    means = [{arm: statistics.fmean(v) for arm, v in own.items()} for own in by_task.values()]
    whole = [own for own in means if set(ARMS) <= own.keys()]
    if not whole:
        return {}

    def told(values: Sequence[float]) -> list[float]:
        return [round(x, 4) for x in over_tasks(values, seed)]

    return {
        **{arm: told([own[arm] for own in whole if arm in own]) for arm in ("base", *ARMS) if arm in whole[0]},
        "false lines cost": told([own["clean"] - own["false"] for own in whole]),
        "the check gives back": told([own["checked"] - own["false"] for own in whole]),
    }


def shown(told: Mapping[str, Any]) -> list[str]:
    if not told["planted"]:
        return ["no edit holds a line that could be made false"]
    precision = "–" if told["precision"] is None else f"{told['precision']:.0%}"
    lines = [
        f"{told['planted']} false lines in {told['edits']} edits: the check finds {told['recall']:.0%} of them "
        f"(precision {precision}), and takes {told['clean_lost'] or 0:.0%} of the others"
    ]
    for measure, values in told["by_people"].items():
        parts = ", ".join(f"{name} {v[0]:.3f} ({v[1]:.3f} to {v[2]:.3f})" for name, v in values.items())
        lines.append(f"{measure}, people's questions: {parts or 'nothing to compare'}")
    return lines

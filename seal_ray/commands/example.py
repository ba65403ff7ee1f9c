"""What a run taught the model, shown on one passage: its best edit, a question, the answers before and after."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from seal_ray.domains import Teller
from seal_ray.grading.measure import question_likelihoods
from seal_ray.loops.history import Round, Run
from seal_ray.records import AskedAs, Candidate, Description, Edit, Trial
from seal_ray.text import one_line

WIDTH = 100  # characters of a line of text
LINES = 6  # of an edit


@dataclass(frozen=True)
class Learned:
    """One question of one passage, before and after the best edit."""

    about: Description
    question: AskedAs
    edit: Edit
    before: str
    after: str
    gain: tuple[bool, float]  # whether it became right, and by how much its answer became likelier


def show(run: Run) -> str:
    """The example of the last committed round; nothing where there is none."""
    if not run.latest:
        return ""
    best = max(_candidates(run.round(run.latest), Teller.of(run.config)), key=lambda one: one.gain, default=None)
    if best is None:
        return ""
    text = [one_line(line, WIDTH) for line in best.edit.text.splitlines() if line.strip()]
    more = [f"… ({len(text) - LINES} more lines)"] if len(text) > LINES else []
    return "\n".join(
        [
            f"one passage of round {run.latest}: {one_line(best.about.title, WIDTH)}",
            f"  {one_line(best.about.text, 2 * WIDTH)}",
            "the edit that taught it best:",
            *(f"  | {line}" for line in [*text[:LINES], *more]),
            f"asked without the passage: {one_line(best.question.text, WIDTH)} "
            f"({one_line(' or '.join(map(str, best.question.gold)), WIDTH)})",
            f"  before: {_said(best.before)}",
            f"  after:  {_said(best.after)}",
            f"  the right answer became {_times(best.gain[1])} by training on that edit",
        ]
    )


def _said(answer: str) -> str:
    return one_line(answer, WIDTH) or "(nothing)"


def _times(gain: float) -> str:
    factor = math.exp(min(abs(gain), 50))
    return f"{factor:.3g} times {'likelier' if gain >= 0 else 'less likely'} a token"


def _candidates(round_: Round, teller: Teller) -> Iterator[Learned]:
    """Every question of the edit that each task was helped most by."""
    worth = {r["edit"]: r["value"]["mean"] for r in (round_.rewards or {}).get("rewards", [])}
    edits = {e.id: e for e in round_.edits}
    trials = {t.candidate: t for t in round_.trials if not t.failure}
    right = {(v.candidate, v.question): bool(v.correct) for v in round_.verdicts}
    for task in round_.tasks:
        of_task = [c for c in round_.candidates if c.task == task.id and c.id in trials]
        alone = next((c for c in of_task if c.kind == "baseline"), None)
        tried = [c for c in of_task if c.edit in worth]
        if not alone or not tried:
            continue
        best = max(tried, key=lambda c: (worth[str(c.edit)], -c.repeat))
        about = teller.describe(task)
        for asked in about.questions:
            one = _learned(about, asked, edits[str(best.edit)], (alone, best), trials, right)
            if one:
                yield one


def _learned(
    about: Description,
    asked: AskedAs,
    edit: Edit,
    pair: tuple[Candidate, Candidate],
    trials: dict[str, Trial],
    right: dict[tuple[str, str], bool],
) -> Learned | None:
    texts = [{a.question: a.text for a in trials[c.id].answers} for c in pair]
    likely = [question_likelihoods(trials[c.id]) for c in pair]
    if not all(asked.id in t for t in (*texts, *likely)):
        return None
    became_right = right.get((pair[1].id, asked.id), False) and not right.get((pair[0].id, asked.id), False)
    gain = likely[1][asked.id] - likely[0][asked.id]
    return Learned(about, asked, edit, texts[0][asked.id], texts[1][asked.id], (became_right, gain))

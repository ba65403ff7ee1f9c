"""A page for every task of a round: its edits, trials, answers and verdicts, as plain data for a reader."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.domains import Teller
from seal_ray.grading.measure import RUBRIC, measure, question_likelihoods
from seal_ray.loops.history import Round, curve
from seal_ray.observe.report import Page
from seal_ray.records import Candidate, Choice, Edit, Json, Reward, Task, Trial, Verdict, decode, encode
from seal_ray.storage.ledger import RoundLedger

POINTS = 48  # of a loss curve; more steps are averaged
HEAD = 140  # characters of an edit in the list of edits
# what the list of edits does without
BODY = {"text", "content", "trained", "candidates", "rubric", "asked", "finish", "tokens", "logprob", "raw"}


@dataclass
class _Of:
    """What a round holds of one task."""

    edits: list[Edit] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)


class Reader:
    """One round, looked up by task."""

    def __init__(self, round_: Round, part: RoundLedger, grader: str, versions: dict[str, int], teller: Teller) -> None:
        self.round, self.grader, self.versions, self.teller = round_, grader, versions, teller
        self.tasks = {t.id: t for t in round_.tasks}
        self.trials: dict[str, Trial] = {t.candidate: t for t in round_.trials}
        self.verdicts: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in round_.verdicts:
            self.verdicts[verdict.candidate].append(verdict)
        self.rewards = {r["edit"]: decode(Reward, r) for r in (round_.rewards or {}).get("rewards", [])}
        self.scores = {(s["task"], s["kind"]): s for s in (round_.rewards or {}).get("scores", [])}
        self.choices: dict[str, Choice] = {c.edit: c for c in round_.choices}
        self.kept = {c.edit for c in round_.kept}
        self.against = {c.against: c for c in round_.choices if c.against}
        self.abstained = (part.get("selection.json") or {}).get("abstained") or {}
        self.asked: dict[str, list[str]] = defaultdict(list)  # edit -> why it was repeated further
        for request in part.records("repeats").values():
            for edit in request.edits:
                self.asked[edit].append(request.reason)
        self.of: dict[str, _Of] = defaultdict(_Of)
        for edit in round_.edits:
            self.of[edit.task].edits.append(edit)
        for candidate in round_.candidates:
            self.of[candidate.task].candidates.append(candidate)
        self.held_out = {task for point in curve(part) for task in point["by_task"]}
        # as the rewards were made
        own = [c for c in round_.candidates if c.task in self.tasks]
        measured = measure(own, round_.trials, round_.verdicts, self.grader)
        self.measured = {(m.task, m.kind, m.edit, m.repeat): m for m in measured}

    def pages(self) -> Iterator[Page]:
        gate = sorted(self.of.keys() - self.tasks.keys())
        for task_id in (*self.tasks, *gate):
            yield self._page(task_id, self.tasks.get(task_id))

    def _page(self, task_id: str, task: Task | None) -> Page:
        mine = self.of[task_id]
        edits = sorted(mine.edits, key=lambda e: (self.versions.get(e.version, 0), e.slot))
        by_edit: dict[str | None, list[Candidate]] = defaultdict(list)
        for candidate in sorted(mine.candidates, key=lambda c: (c.slot, c.repeat)):
            by_edit[candidate.edit].append(candidate)
        asked = self._questions(task, mine.candidates)
        told = [self._edit(e, task, by_edit[e.id], asked) for e in edits]
        alone = [self._candidate(c, asked) for c in by_edit[None]]
        alone.sort(key=lambda c: c["kind"])  # the baseline first
        part = "train" if task else "held out" if task_id in self.held_out else "gate"
        if part == "gate":  # the old version was asked before the new one
            for version, told_alone in zip(self._compared(), alone, strict=False):
                told_alone["version"] = version
        worth = [self.rewards[e.id].value.mean for e in edits if e.id in self.rewards]
        failed = {c.id for c in mine.candidates if c.id in self.trials and self.trials[c.id].failure}
        base: dict[str, Any] = self.scores.get((task_id, "baseline")) or {}
        title = self.teller.describe(task).title if task else task_id
        line: dict[str, Json] = {
            "round": self.round.number,
            "id": task_id,
            "title": title,
            "part": part,
            "edits": len(edits),
            "failed": sum(e.failure is not None for e in edits),
            "trials_failed": sum(c.id in failed for c in mine.candidates),
            "untried": sum(c.id not in self.trials for c in mine.candidates),
            "base_accuracy": _mean(base.get("accuracy")),
            "base_likelihood": _mean(base.get("likelihood")),
            "mean": statistics.fmean(worth) if worth else None,
            "best": max(worth) if worth else None,
            "kept": sum(e.id in self.kept for e in edits),
            "abstained": self.abstained.get(task_id),
        }
        rows = [
            {k: v for k, v in e.items() if k not in BODY}
            | {"round": self.round.number, "task": task_id, "title": title, "part": part}
            | _summary(e["candidates"])
            | {"head": " ".join(str(e["text"]).split())[:HEAD]}
            for e in told
        ]
        body = {"data": encode(task.data) if task else None, "questions": asked, "edits": told, "alone": alone}
        return Page(line, rows, body | {"group": task.group if task else ""})

    def _compared(self) -> list[int]:
        update = (self.round.update or {}).get("version") or {}
        return [
            v
            for v in (self.round.version.number if self.round.version else None, update.get("number"))
            if v is not None
        ]

    def _edit(self, e: Edit, task: Task | None, mine: Sequence[Candidate], asked: Any) -> dict[str, Any]:
        reward, choice = self.rewards.get(e.id), self.choices.get(e.id)
        return {
            "id": e.id,
            "slot": e.slot,
            "style": e.style,
            "version": self.versions.get(e.version),
            "reward": _pair(encode(reward.value)) if reward else None,
            "raw": _pair(encode(reward.raw)) if reward else None,
            "accuracy": _pair(encode(reward.accuracy)) if reward else None,
            "likelihood": _pair(encode(reward.likelihood)) if reward else None,
            "weight": choice.weight if choice else None,
            "why": choice.reason if choice else None,
            "against": self.against[e.id].reason if e.id in self.against else None,
            "failure": encode(e.failure),
            "text": e.text,
            "content": e.content if e.content != e.text else None,
            "finish": e.finish,
            "tokens": len(e.ids),
            "logprob": round(statistics.fmean(e.logprobs), 4) if e.logprobs else None,
            "trained": self._trained(e, task),
            "asked": self.asked.get(e.id, []),
            "rubric": [_verdict(v) | {"axis": v.question} for v in self.verdicts.get(e.id, []) if v.grader == RUBRIC],
            "candidates": [self._candidate(c, asked) for c in mine],
        }

    def _trained(self, e: Edit, task: Task | None) -> dict[str, Json] | None:
        """The training texts, where the domain makes texts of an edit."""
        texts = self.teller.texts(task, e.content) if task and not e.failure else []
        if not task or not texts:
            return None
        context = self.teller.texts(task, None)
        with_context = texts[-1:] == context
        title = self.teller.describe(task).title.strip()
        own = texts[:-1] if with_context else texts
        return {"texts": [t.removeprefix(f"{title}\n") for t in own], "title": title, "context": with_context}

    def _candidate(self, c: Candidate, asked: Sequence[Any]) -> dict[str, Any]:
        trial = self.trials.get(c.id)
        told: dict[str, Any] = {"id": c.id, "kind": c.kind, "repeat": c.repeat, "seed": c.seed}
        if trial is None:
            return told | {"state": "lost" if self.round.committed else "waiting"}
        if trial.failure:
            return told | {"state": "failed", "failure": encode(trial.failure), "worker": trial.worker}
        m = self.measured.get((c.task, c.kind, c.edit, c.repeat))
        if m is None:  # of the gate, where both versions have a baseline: each trial stands for itself
            m = next(iter(measure([c], [trial], self.verdicts.get(c.id, []), self.grader)), None)
        says = self._verdicts(c.id)
        likely = question_likelihoods(trial)
        answers: dict[str, list[Json]] = defaultdict(list)
        for a in trial.answers:
            answers[a.question].append([a.text, a.finish])
        width = -(-len(trial.losses) // POINTS) or 1
        curve = [statistics.fmean(trial.losses[i : i + width]) for i in range(0, len(trial.losses), width)]
        return told | {
            "state": "tried",
            "losses": [round(x, 4) for x in curve],
            "per_point": width,
            "first_last": [round(trial.losses[0], 4), round(trial.losses[-1], 4)] if trial.losses else None,
            "steps": trial.cost.steps or len(trial.losses),
            "tokens": trial.cost.tokens,
            "seconds": round(trial.cost.seconds, 3),
            "worker": trial.worker,
            "accuracy": m.accuracy if m else None,
            "likelihood": m.likelihood if m else None,
            "answers": [[a for part in q["parts"] for a in answers.get(part, [])] for q in asked],
            "verdicts": [_verdict(says[q["id"]]) if q["id"] in says else None for q in asked],
            "likely": [_over([likely[p] for p in q["parts"] if p in likely]) for q in asked],
        }

    def _verdicts(self, candidate: str) -> dict[str, Verdict]:
        """By question: of the grader that rewards are made with, or of another where that said nothing."""
        said = [v for v in self.verdicts.get(candidate, []) if v.grader != RUBRIC]
        chosen = [v for v in said if v.grader == self.grader] or said
        return {v.question: v for v in chosen}

    def _questions(self, task: Task | None, mine: Sequence[Candidate]) -> list[dict[str, Json]]:
        """What was asked. `parts` are the answers that one verdict is about: a puzzle is asked under several views."""
        parts: dict[str, None] = {}
        ids: dict[str, None] = {}
        for c in mine:
            trial = self.trials.get(c.id)
            if trial and not trial.failure:
                parts |= dict.fromkeys([a.question for a in trial.answers])
                ids |= dict.fromkeys(self._verdicts(c.id))
        loose = [p for p in parts if p not in ids and p.rpartition("/")[0] not in ids]
        described = self.teller.describe(task).questions if task else ()
        texts: dict[str, tuple[str, list[Json]]] = {q.id: (q.text, list(q.gold)) for q in described}
        return [
            {
                "id": q,
                "text": texts.get(q, ("", []))[0],
                "gold": texts.get(q, ("", []))[1],
                "parts": [p for p in parts if p == q or p.startswith(f"{q}/")],
            }
            for q in dict.fromkeys([*texts, *ids, *loose])
        ]


def _summary(candidates: Sequence[dict[str, Any]]) -> dict[str, Json]:
    tried = [c for c in candidates if c["state"] == "tried"]
    failed = next((c["failure"]["kind"] for c in candidates if c["state"] == "failed"), None)
    return {
        "trials": len(tried),
        "trials_failed": sum(c["state"] == "failed" for c in candidates),
        "untried": sum(c["state"] in ("waiting", "lost") for c in candidates),
        "trial_failure": failed,
        "steps": tried[0]["steps"] if tried else None,
        "seconds": round(sum(c["seconds"] for c in tried), 3) if tried else None,
        "loss": tried[0]["first_last"] if tried else None,
    }


def _verdict(v: Verdict) -> dict[str, Json]:
    told: dict[str, Json] = {"correct": v.correct, "score": _round(v.score), "grader": v.grader}
    return told | {"failure": encode(v.failure)} if v.failure else told


def _pair(estimate: dict[str, Any] | None) -> list[float] | None:
    return [round(estimate["mean"], 5), round(estimate["error"], 5), estimate["n"]] if estimate else None


def _mean(estimate: dict[str, Any] | None) -> float | None:
    return estimate["mean"] if estimate else None


def _over(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""From a run's ledger to its report: the figures of every round as plain data, and one file to read them in."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seal_ray import __version__
from seal_ray.commands import knowledge, long_tail
from seal_ray.commands.private_files import write_private
from seal_ray.commands.task_pages import Reader
from seal_ray.commands.terminal import last_end
from seal_ray.domains import Teller
from seal_ray.errors import ConfigError
from seal_ray.events import Event, Graded, RunEnded, StoreRetried, TrialFailed, Warned
from seal_ray.loops import parents, stream
from seal_ray.loops.history import Round, Run, as_written, curve
from seal_ray.observe.report import Page, Report, compose
from seal_ray.observe.timeline import timeline
from seal_ray.policy.versions import tree
from seal_ray.records import Failure, Json
from seal_ray.storage.tombstones import tombstones

WARNINGS = 200


def write(run: Run, to: Path) -> Report:
    """Write the report of a run as one file."""
    with as_written(run.uri, "its parts"):
        made = compose(overview(run), pages(run))
    write_private(to, made.html)
    return made


def pages(run: Run) -> Iterator[Page]:
    """The newest round first, its own tasks before those that its gate asked."""
    grader = str((run.record["config"].get("grading") or {}).get("grader", ""))
    numbers, teller = {v.digest: v.number for v in run.versions()}, _teller(run)
    for number in reversed(run.ledger.rounds()):
        round_ = run.round(number)
        yield from Reader(round_, run.ledger.round(number), grader, numbers, teller).pages()


def _teller(run: Run) -> Teller:
    """What the run's domain says of its tasks; nothing where this version can't read its configuration."""
    try:
        return Teller.of(run.config)
    except ConfigError:
        return Teller(None)


# the figures


def overview(run: Run) -> dict[str, Json]:
    """Everything but the pages of tasks."""
    events = run.events()
    config: dict[str, Any] = run.record["config"]
    holder = run.ledger.holder()
    ended = last_end(events)
    rounds = run.begun()
    return {
        "uri": run.uri,
        "made": time.time(),
        "by": f"seal_ray {__version__}",
        "state": _state(ended, holder is not None, bool(events)),
        "reason": (ended.reason or None) if ended else None,
        "rounds_wanted": run.rounds_wanted(events),
        "committed": run.latest,
        "held": run.held(),
        "rounds": [_figures(run, round_, gone) for round_, gone in zip(rounds, _deleted(run, rounds), strict=True)],
        "curve": run.curve(),
        "lineage": _lineage(run),
        "stream": stream.summary(run),
        "time": timeline(events),
        "grading": _grading(events),
        "knowledge": knowledge.maps(run),
        "long_tail": long_tail.by_kind(run, _teller(run)),
        "failures": [line for round_ in rounds for line in _failures(round_)] + _lost(events),
        "warnings": _warnings(events),
        "store_retries": sum(isinstance(e, StoreRetried) for e in events),
        "config": config,
        "software": run.record.get("software"),
        "digest": run.record.get("digest"),
    }


def _lineage(run: Run) -> str | None:
    """Which version came of which, drawn as a tree; None where none was made."""
    return tree(run.lineage()) if len(run.versions()) > 1 else None


def _state(ended: RunEnded | None, driven: bool, told: bool) -> str:
    if driven:
        return "on"
    return ended.outcome if ended else "stopped" if told else "not begun"


def _figures(run: Run, round_: Round, deleted: list[str]) -> dict[str, Json]:
    part = run.ledger.round(round_.number)
    selection = part.get("selection.json") or {}
    worth: dict[str, Any] = round_.rewards or {}
    own = {t.id for t in round_.tasks}
    held_out = {task for point in curve(part) for task in point["by_task"]}
    edits = [e for e in round_.edits if e.task in own]
    kept = {c.edit for c in round_.kept}
    tried = {t.candidate for t in round_.trials}
    return {
        "round": round_.number,
        "committed": round_.committed,
        "decision": (round_.manifest or {}).get("decision"),
        "version": round_.version.number if round_.version else None,
        "tasks": len(round_.tasks),
        "deleted": deleted,
        "edits": len(edits),
        "edits_failed": sum(e.failure is not None for e in edits),
        "candidates": len(round_.candidates),
        "trials": len(round_.trials),
        "trials_failed": sum(t.failure is not None for t in round_.trials),
        "untried": sum(c.id not in tried for c in round_.candidates),
        "verdicts": len(round_.verdicts),
        "kept": len(kept),
        "abstained": len(selection.get("abstained") or {}),
        "arms": {**worth["arms"], "kept": selection.get("kept")} if worth else None,
        **{
            k: worth.get(k)
            for k in ("reliability", "agreement", "calibration", "diversity", "coverage", "measure", "notes", "votes")
        },
        "rewards": [[round(r["value"]["mean"], 4), int(r["edit"] in kept)] for r in worth.get("rewards", [])],
        "update": _update(round_.update),
        "gate": round_.gate,
        "word": part.get("decision.json"),
        "rollback": parents.said(part),
        "cost": _cost(round_, own, held_out),
    }


def _update(update: dict[str, Any] | None) -> dict[str, Json] | None:
    if update is None or not update.get("version"):
        return update
    names = ("steps", "seconds", "losses", "validation_losses", "kl", "drift", "entropy", "entropy_before")
    names += ("held_back", "left_out", "log")
    lessons = len(update.get("edits") or [])
    return {"version": update["version"]["number"], "edits": lessons} | {k: update.get(k) for k in names}


def _cost(round_: Round, own: set[str], held_out: set[str]) -> dict[str, dict[str, float]]:
    """Seconds, tokens and steps of the trials by arm; the gate's tasks and held-out ones are arms of their own."""
    about = {c.id: c for c in round_.candidates}
    sums: dict[str, dict[str, float]] = {}
    for trial in round_.trials:
        candidate = about.get(trial.candidate)
        aside = "evaluation" if trial.task in held_out else "gate"
        arm = aside if trial.task not in own else candidate.kind if candidate else "edit"
        total = sums.setdefault(arm, dict.fromkeys(("trials", "seconds", "fit", "answer", "tokens", "steps"), 0.0))
        cost = trial.cost
        spent = (1, cost.seconds, cost.fit_seconds, cost.answer_seconds, cost.tokens, cost.steps)
        for key, amount in zip(total, spent, strict=True):
            total[key] = round(total[key] + amount, 3)
    return sums


def _deleted(run: Run, rounds: Sequence[Round]) -> list[list[str]]:
    """The tasks that were taken out of each round, by their digests: a deletion rewrote the list of its tasks."""
    stones = tombstones(run.ledger.store)

    def of(prefix: str) -> list[str]:
        return sorted({s["task"] for s in stones if any(p["path"].startswith(prefix) for p in s["replaced"])})

    return [of(f"rounds/{r.number:04d}/tasks.") for r in rounds]


def _failures(round_: Round) -> list[dict[str, Json]]:
    about = {c.id: c.kind for c in round_.candidates}
    kinds: list[tuple[str, Failure]] = [("edit", e.failure) for e in round_.edits if e.failure]
    kinds += [(f"trial of {_arm(about.get(t.candidate))}", t.failure) for t in round_.trials if t.failure]
    kinds += [("verdict", v.failure) for v in round_.verdicts if v.failure]
    if round_.update and not round_.update.get("version"):
        kinds.append(("update", Failure("none", str(round_.update.get("reason") or "no version was made"))))
    return _counted(round_.number, kinds)


def _arm(kind: str | None) -> str:
    return {"baseline": "the baseline", "context": "the context alone", "heat": "a heat"}.get(kind or "", "an edit")


def _lost(events: Sequence[Event]) -> list[dict[str, Json]]:
    """What was nobody's fault is in no record: it is only told of."""
    by_round: dict[int, list[tuple[str, Failure]]] = defaultdict(list)
    for event in events:
        if isinstance(event, TrialFailed) and event.blame == "infra":
            said = Failure(event.failure, event.message, "infra")
            what = f"trial of {_arm(event.arm)}" if event.arm else "trial"
            by_round[event.round].append((what, said))
    return [line for number, kinds in sorted(by_round.items()) for line in _counted(number, kinds)]


def _counted(number: int, kinds: Sequence[tuple[str, Failure]]) -> list[dict[str, Json]]:
    counts = Counter((what, f.kind, f.blame) for what, f in kinds)
    like = {(what, f.kind, f.blame): f.message for what, f in reversed(kinds)}
    return [
        {"round": number, "what": key[0], "kind": key[1], "blame": key[2], "count": count, "like": like[key]}
        for key, count in counts.most_common()
    ]


def _grading(events: Sequence[Event]) -> list[dict[str, Json]]:
    """Calls and dollars by grader, as far as they were told."""
    sums: dict[str, dict[str, float]] = {}
    for e in events:
        if isinstance(e, Graded):
            spent = {"verdicts": e.verdicts, "failed": e.failed, "seconds": e.seconds}
            spent |= {"calls": e.calls, "cached": e.cached, "cost": e.cost}
            total = sums.setdefault(e.grader, dict.fromkeys(spent, 0.0))
            for key, amount in spent.items():
                total[key] += amount
    return [{"grader": name, **total} for name, total in sums.items()]


def _warnings(events: Sequence[Event]) -> list[dict[str, Json]]:
    lines: dict[tuple[int, str], dict[str, Json]] = {}
    for event in events:
        if isinstance(event, Warned):
            key = event.round, event.message
            line = lines.setdefault(key, {"round": key[0], "message": key[1], "count": 0, "time": event.time})
            line["count"] = int(line["count"]) + 1
    return list(lines.values())[-WARNINGS:]

"""For the report: what a version knew of each document, passage and question, where a probe has asked."""

from typing import Any

from seal_ray.loops.history import Run
from seal_ray.records import Json

MOST = 3000  # questions of a map that a report shows


def maps(run: Run) -> list[dict[str, Json]]:
    """One entry for each round that has a map, with how its questions came about and figures by kind of question."""
    made = []
    for number in run.ledger.rounds() or ():
        part = run.ledger.round(number)
        known: Any = part.get("map.json") if part else None
        if known:
            tests: Any = part.get("tests.json") or {}
            slices: Any = part.get("slices.json") or []
            made.append(
                {
                    "round": number,
                    "version": known["version"],
                    "funnel": tests.get("funnel"),
                    "slices": slices,
                    "documents": _nested(known),
                    "left_out": max(0, len(known["questions"]) - MOST),
                }
            )
    return made


def _nested(known: dict[str, Any]) -> list[dict[str, Json]]:
    """Questions within passages within documents, the least known first."""
    questions: dict[str, list[Any]] = {}
    for q in sorted(known["questions"], key=lambda q: -q["doubt"])[:MOST]:
        keys = ("text", "gold", "answers", "right", "disagreement", "entropy", "likelihood", "doubt", "held_out")
        questions.setdefault(q["task"], []).append({k: q[k] for k in keys})
    documents: dict[str, list[Any]] = {}
    for p in known["passages"]:
        about = {k: p[k] for k in ("task", "title", "doubt", "weight")}
        documents.setdefault(p["document"], []).append(about | {"questions": questions.get(p["task"], [])})
    rows: list[dict[str, Json]] = []
    for name, passages in documents.items():
        doubts = [q["doubt"] for p in passages for q in p["questions"]]
        mean = round(sum(doubts) / len(doubts), 4) if doubts else None
        rows.append({"document": name, "doubt": mean, "passages": sorted(passages, key=_least_known)})
    return sorted(rows, key=lambda row: (-(row["doubt"] if row["doubt"] is not None else -1), row["document"]))


def _least_known(passage: dict[str, Any]) -> tuple[float, str]:
    return -(passage["doubt"] if passage["doubt"] is not None else -1), passage["task"]

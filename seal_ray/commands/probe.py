"""What `seal-ray probe` shows: how the questions came through their checks, and what is not known of each document."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seal_ray import config_file
from seal_ray.commands.private_files import write_private
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.loops.probe import QuestionSet, weak_first
from seal_ray.loops.probing.uncertainty import UncertaintyMap
from seal_ray.loops.probing.weak import weak_sentences
from seal_ray.records import Json, digest

SHOWN = 8  # questions that are shown
DOCUMENTS = 30  # that the table has, at most
WIDEST = 44  # characters of a name in the table
ENDINGS = (".yaml", ".yml")


def configured(source: str, overrides: Sequence[str], *, kind: str = "probe") -> Config:
    """The configuration in a file, or the package's own with these documents."""
    if source.endswith(ENDINGS) or source in config_file.BUILTIN:
        return config_file.load(source, overrides)
    own = [config_file.assignment("domain.data", source), config_file.assignment("run.uri", _uri(source, kind))]
    styled = any(one.startswith("domain.style=") for one in overrides)  # and then not by the built-in template
    return config_file.load(config_file.DOCUMENTS, [*own, *(['domain.template=""'] if styled else []), *overrides])


def _uri(source: str, kind: str) -> str:
    """The run about these documents, whether or not a slash was typed behind their folder."""
    plain = source.rstrip("/")
    named = [f"runs/{kind}-{Path(plain).name or 'documents'}-{digest(s)[:6]}" for s in (plain or source, source)]
    return next((uri for uri in named if Path(uri).is_dir()), named[0])


def check_target(to: Path | None) -> None:
    """A file that can't be written is found before hours of work, not after."""
    if to is None:
        return
    folder = to.parent
    if to.exists():
        raise ConfigError(f"{to} is already there", hint="name another file with --to")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} is no folder that can be written to", hint="make it, or name another file")


def write(tests: QuestionSet, known: UncertaintyMap, to: Path, enough: float) -> None:
    """The passages with their questions, as `domain.data` of domain knowledge; weights and weak sentences say what is
    not known. `enough`: the doubt under which a fact counts as known. Without a question no file is written: no run
    would take it.
    """
    if not tests.tasks:
        return
    weights = {p.task: p.weight for p in known.passages}
    rows = []
    for task in tests.tasks:
        asked = [q for q in known.questions if q.task == task.id]
        weak = weak_sentences(task.data["context"], asked, tests.about, enough)
        row = {k: task.data[k] for k in ("title", "context", "questions")}
        rows.append({**row, "weight": weights.get(task.id, 1.0), **({"weak": weak} if weak else {})})
    write_private(to, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def as_data(config: Config, tests: QuestionSet, known: UncertaintyMap) -> dict[str, Json]:
    return {
        "uri": config.run.uri,
        "funnel": dict(tests.funnel),
        "documents": known.documents(),
        "map": known.as_data(),
    }


def show(config: Config, tests: QuestionSet, known: UncertaintyMap, to: Path | None) -> str:
    parts = ["", show_funnel(tests.funnel)]
    if known.questions:
        parts += [show_map(known), show_weakest(known)]
    else:
        parts.append(
            "no question stood its checks, so nothing can be said of what is known; "
            "a larger model writes better ones (model.name), or write some yourself (domain.questions)"
        )
    where = "" if not to else f"; the questions are in {to}" if tests.tasks else f"; {to} was not written"
    parts.append(f"everything that was asked is in {config.run.uri}{where}")
    return "\n\n".join(parts)


def show_funnel(funnel: Any) -> str:
    lost = ", ".join(f"{name} {count}" for name, count in funnel["lost"].items())
    made = f"{funnel['written']} questions written" + (
        f", {funnel['by_people']} by people" if funnel["by_people"] else ""
    )
    return (
        f"{made}; {funnel['kept']} stood every check"
        + (f" (failed: {lost})" if lost else "")
        + f"\nthey ask about {funnel['passages_asked']} of {funnel['passages']} passages"
        + (f" and {funnel['sentences_asked']} of {funnel['sentences']} sentences" if funnel["written"] else "")
    )


def show_map(known: UncertaintyMap) -> str:
    """One line for each document, the least known first."""
    rows = known.documents()
    titles = (("passages", 8), ("asked", 6), ("doubt", 6), ("right", 6), ("disagree", 8), ("likelihood", 10))
    lines = [" ".join([f"{'document':<{WIDEST}}", *(f"{title:>{width}}" for title, width in titles)])]
    for row in rows[:DOCUMENTS]:
        name = str(row["document"])
        name = name if len(name) <= WIDEST else "…" + name[-WIDEST + 1 :]
        likelihood = "–" if row["likelihood"] is None else f"{row['likelihood']:.2f}"
        lines.append(
            f"{name:<{WIDEST}} {row['passages']:>8} {row['questions']:>6} {_share(row['doubt']):>6} "
            f"{_share(row['right']):>6} {_share(row['disagreement']):>8} {likelihood:>10}"
        )
    if len(rows) > DOCUMENTS:
        lines.append(f"and {len(rows) - DOCUMENTS} more")
    already = sum(p.weight == 0 for p in known.passages)
    if already:
        lines.append(f"{already} of {len(known.passages)} passages are known already and need no training")
    return "\n".join(lines)


def show_weakest(known: UncertaintyMap) -> str:
    lines = ["least known:"]
    for question in weak_first(known.questions)[:SHOWN]:
        said = max(question.answers, key=question.answers.count) if question.answers else ""
        shown = " ".join(said.split())[:60] or "(nothing)"
        lines += [f"  {question.text}", f"      right: {question.gold[0]}   said: {shown}"]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"

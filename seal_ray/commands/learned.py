"""The page of `seal-ray adapt`: what was learned, with questions before and after, and what was not.

One HTML file that needs nothing else, and the same as Markdown. What models and documents wrote is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from seal_ray.loops.adapt import Adapted
from seal_ray.loops.probing.slices import Slice
from seal_ray.loops.probing.uncertainty import MappedQuestion
from seal_ray.records import Json

RIGHT = 0.5  # share of the answers from which a question counts as answered right
ORDER = ("learned", "not learned", "lost", "known before")
MEANING = {
    "learned": "wrong before, right now",
    "not learned": "wrong before and now",
    "lost": "right before, wrong now",
    "known before": "right before and now",
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } td, th { text-align: left; vertical-align: top;
padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; } td.n, th.n { text-align: right; }
.quiet { opacity: .7; } .big { font-size: 1.3rem; } details { margin: .4rem 0; } summary { cursor: pointer; }
.bar { display: inline-block; height: .7rem; background: #3a7; vertical-align: middle; }
.bar.doubt { background: #c63; }
"""


@dataclass(frozen=True)
class AskedTwice:
    """One question before and after."""

    document: str
    title: str  # of its passage
    before: MappedQuestion
    after: MappedQuestion | None

    @property
    def outcome(self) -> str:
        was = self.before.right >= RIGHT
        now = self.after is not None and self.after.right >= RIGHT
        return "known before" if was and now else "lost" if was else "learned" if now else "not learned"


def questions(done: Adapted) -> list[AskedTwice]:
    later = {q.id: q for q in done.after.questions} if done.after else {}
    about = {p.task: (p.document, p.title) for p in done.before.passages}
    return [AskedTwice(*about.get(q.task, ("", "")), q, later.get(q.id)) for q in done.before.questions]


def as_data(done: Adapted, uri: str, out: str) -> dict[str, Json]:
    asked = questions(done)
    return {
        "uri": uri,
        "to": out,
        "decision": done.decision,
        "reasons": list(done.reasons),
        "version": done.version.number if done.version else None,
        "funnel": dict(done.tests.funnel),
        "texts": {k: v for k, v in done.texts.items() if k != "left_out"},
        "outcomes": {name: sum(a.outcome == name for a in asked) for name in ORDER} if done.after else {},
        "slices": [vars(s) for s in done.slices],
        "questions": [
            {
                "document": a.document,
                "title": a.title,
                "question": a.before.text,
                "gold": list(a.before.gold),
                "before": said(a.before),
                "after": said(a.after) if a.after else None,
                "held_out": a.before.held_out,
                "outcome": a.outcome if done.after else None,
            }
            for a in asked
        ],
    }


def said(question: MappedQuestion) -> str:
    """What is said most, on one line."""
    answers = [" ".join(a.split()) for a in question.answers]
    return max(answers, key=answers.count)[:120] if answers else ""


def summary(done: Adapted) -> list[str]:
    """The result in a few lines of text."""
    funnel: Mapping[str, Any] = done.tests.funnel
    about = f"{funnel['kept']} questions about {funnel['passages_asked']} of {funnel['passages']} passages"
    origin = f"{funnel['written']} were written, {funnel['by_people']} came from people"
    lines = [f"{about} stood their checks ({origin}); {len(done.tests.held_out)} are held out"]
    if done.decision == "nothing to learn":
        return [*lines, "every passage is known already: there is nothing to learn, and no adapter was made"]
    if done.after is None:
        return [*lines, f"no version was made: {'; '.join(done.reasons)}"]
    texts: Mapping[str, Any] = done.texts
    trained = f"{texts['texts']} texts of {texts['passages']} passages, {texts['edits']} with an edit that helped"
    if texts.get("answers"):
        trained += f", and from the answers to {texts['answers']} questions that are not held out"
    lines.append(f"learned from {trained}; {texts['unsupported']} lines that no passage supports were left out")
    lines += [f"{s.name}: {figures(s)}" for s in done.slices if s.by in {"all", "use"}]
    return [*lines, f"the gate says {done.decision}: {'; '.join(done.reasons)}"]


def figures(s: Slice) -> str:
    interval = f" ({s.low:+.0%} to {s.high:+.0%})" if s.low is not None and s.high is not None else ""
    likely = ""
    if s.likelihood_before is not None and s.likelihood_after is not None:
        likely = f"; likelihood of a right answer's token {s.likelihood_before:.2f} → {s.likelihood_after:.2f}"
    right = f"{s.before:.0%} → {s.after:.0%} of the answers right, {s.gain:+.0%}{interval}"
    return f"{right}, {s.questions} questions{likely}"


# as HTML


def html(done: Adapted, uri: str, name: str) -> str:
    asked = questions(done)
    parts = [f"<h1>What {escape(name)} knows</h1>", *(f"<p>{escape(line)}</p>" for line in summary(done))]
    parts += [_map(done)]
    if done.after:
        parts += ["<h2>Questions before and after</h2>"]
        parts += [_outcome(outcome, [a for a in asked if a.outcome == outcome]) for outcome in ORDER]
        parts += ["<h2>By kind of question</h2>", _slices(done.slices)]
    else:
        parts += ["<h2>Questions</h2>", _questions(asked, with_after=False)]
    parts += [
        _left_out(done),
        f'<p class="quiet">Everything that was asked, tried and decided is in {escape(uri)}.</p>',
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}">\n<title>{escape(name)}</title>\n<style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(p for p in parts if p)
        + "\n</body></html>\n"
    )


def _map(done: Adapted) -> str:
    """Documents, their passages and their questions, one within the other, the least known first."""
    later = {q.id: q for q in done.after.questions} if done.after else {}
    rows = []
    for document in done.before.documents():
        own = [p for p in done.before.passages if p.document == document["document"]]
        inside = []
        for passage in sorted(own, key=lambda p: -(p.doubt if p.doubt is not None else 2)):
            asked = [q for q in done.before.questions if q.task == passage.task]
            listed = "".join(f"<li>{escape(q.text)} {_bar(q.doubt)}{_after(q, later)}</li>" for q in asked)
            inside.append(
                f"<details><summary>{escape(passage.title)} {_bar(passage.doubt)}</summary><ul>"
                f"{listed or '<li class=quiet>no question stood its checks</li>'}</ul></details>"
            )
        rows.append(
            f"<details><summary><b>{escape(str(document['document']))}</b> {_bar(document['doubt'])}</summary>"
            f'<div style="margin-left:1.2rem">{"".join(inside)}</div></details>'
        )
    return "<h2>What was not known before</h2>" + "\n".join(rows) if rows else ""


def _bar(doubt: Any) -> str:
    if doubt is None:
        return '<span class="quiet">not asked</span>'
    bar = f'<span class="bar doubt" style="width:{4 * float(doubt):.2f}rem"></span>'
    return f'{bar} <span class="quiet">{doubt:.0%} doubt</span>'


def _after(q: MappedQuestion, later: Mapping[str, MappedQuestion]) -> str:
    return f' <span class="quiet">→ {later[q.id].doubt:.0%} after</span>' if q.id in later else ""


def _outcome(outcome: str, asked: Sequence[AskedTwice]) -> str:
    opened = " open" if outcome != "known before" and asked else ""
    return (
        f'<details{opened}><summary class="big">{escape(outcome)}: {len(asked)} '
        f'<span class="quiet">{MEANING[outcome]}</span></summary>{_questions(asked)}</details>'
    )


def _questions(asked: Sequence[AskedTwice], *, with_after: bool = True) -> str:
    if not asked:
        return ""
    heads = ["question", "right answer", "before", *(["after"] if with_after else []), "document"]
    rows = []
    for a in asked:
        mark = ' <span class="quiet">(held out)</span>' if a.before.held_out else ""
        cells = [escape(a.before.text) + mark, escape(a.before.gold[0]), escape(said(a.before)) or "–"]
        cells += [(escape(said(a.after)) or "–") if a.after else "–"] if with_after else []
        rows.append([*cells, f'<span class="quiet">{escape(a.document)}</span>'])
    return _table(heads, rows)


def _slices(slices: Sequence[Slice]) -> str:
    rows = []
    for s in slices:
        interval = f"{s.low:+.0%} to {s.high:+.0%}" if s.low is not None and s.high is not None else "–"
        likely = [f"{x:.2f}" if x is not None else "–" for x in (s.likelihood_before, s.likelihood_after)]
        shares = [f"{s.before:.0%}", f"{s.after:.0%}", f"{s.gain:+.0%}"]
        rows.append([escape(s.by), escape(s.name), str(s.questions), *shares, interval, *likely])
    heads = ["by", "which", "questions", "before", "after", "gain", "interval", "likelihood before", "after"]
    return _table(heads, rows, numbers=range(2, 9))


def _left_out(done: Adapted) -> str:
    rows: Any = done.texts.get("left_out") or []
    if not rows:
        return ""
    cells = [[escape(r["text"]), escape(r["made_up"])] for r in rows]
    listed = _table(["line of an edit", "what its passage does not say"], cells)
    return f"<h2>Left out</h2><p>Lines of edits that say what their passage does not.</p>{listed}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] | range = ()) -> str:
    """Cells are HTML already."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = [' class="n"' if n in numbers else "" for n in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{m}>{c}</{tag}>" for m, c in zip(marks, cells, strict=True)) + "</tr>"

    return f"<table>{line('th', heads)}{''.join(line('td', r) for r in rows)}</table>"


# as Markdown


def markdown(done: Adapted, uri: str, name: str) -> str:
    asked = questions(done)
    lines = [f"# What {_plain(name)} knows", "", *(f"{_plain(line)}\n" for line in summary(done))]
    for outcome in ORDER if done.after else ():
        own = [a for a in asked if a.outcome == outcome]
        if own:
            lines += [f"## {outcome}: {len(own)} ({MEANING[outcome]})", "", "| question | right | before | after |"]
            lines += ["| --- | --- | --- | --- |"]
            lines += [
                f"| {_plain(a.before.text)}{' (held out)' if a.before.held_out else ''} | {_plain(a.before.gold[0])} "
                f"| {_plain(said(a.before))} | {_plain(said(a.after)) if a.after else '–'} |"
                for a in own
            ]
            lines.append("")
    if done.slices:
        lines += ["## By kind of question", "", "| by | which | questions | before | after | gain |"]
        lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
        lines += [
            f"| {s.by} | {_plain(s.name)} | {s.questions} | {s.before:.0%} | {s.after:.0%} | {s.gain:+.0%} |"
            for s in done.slices
        ]
        lines.append("")
    return "\n".join([*lines, f"Everything that was asked, tried and decided is in {_plain(uri)}.", ""])


def _plain(text: str) -> str:
    """Text that is neither markup nor the end of a cell."""
    flat = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        flat = flat.replace(mark, f"\\{mark}")
    return flat

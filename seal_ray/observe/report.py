"""The report as one HTML file that needs nothing else: no network, and nothing in it but data, style and script.

What models and documents wrote is data: it stands in JSON with `<` escaped, the script puts it on the page as text
alone, and the policy in the head lets no other script, style, picture or address in.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from seal_ray.observe.arms import TITLES
from seal_ray.records import Json

MOST_BYTES = 16_000_000  # of the pages of tasks, together
LIMITS = (20_000, 6_000, 2_000, 700)  # characters of one text, the first under which everything fits
SCRIPTS = (
    "dom.js", "charts.js", "figures.js", "retention.js", "costs.js", "lists.js", "task.js", "knowledge.js",
    "tail.js", "main.js",
)  # fmt: skip
PLACES = ("%POLICY%", "%STYLE%", "%OVERVIEW%", "%PAGES%", "%SCRIPT%")


@dataclass(frozen=True)
class Page:
    """A task: its line in the list of tasks, its edits' lines, and what is shown when it is opened."""

    task: Mapping[str, Json]
    edits: Sequence[Mapping[str, Json]]
    body: Mapping[str, Json]


@dataclass(frozen=True)
class Report:
    """A report, and what did not fit in."""

    html: bytes
    tasks: int  # that have a page
    left_out: int
    longest: int  # characters of one text, at most


def compose(overview: Mapping[str, Json], pages: Iterable[Page], most: int = MOST_BYTES) -> Report:
    """One file of all this. Pages that come first are kept first; long texts are cut before a page is left out."""
    kept, left_out = _that_fit(pages, most)
    longest, bodies = 0, list[str]()
    for longest in LIMITS:
        bodies = [embedded(cut(page.body, longest)) for page in kept]
        if sum(map(_size, bodies)) <= most:
            break
    data = dict(overview) | {
        "arms": list(TITLES.items()),
        "tasks": [dict(p.task) for p in kept],
        "edits": [dict(e) | {"page": number} for number, p in enumerate(kept) for e in p.edits],
        "left_out": left_out,
        "longest": longest,
    }
    parts = {
        "%OVERVIEW%": embedded(cut(data, LIMITS[0])),
        "%PAGES%": "\n".join(
            f'<script type="application/json" id="page-{n}">{b}</script>' for n, b in enumerate(bodies)
        ),
        "%STYLE%": _asset("report.css"),
        "%SCRIPT%": _script(),
    }
    parts["%POLICY%"] = _policy(parts["%SCRIPT%"], parts["%STYLE%"])
    html = "".join(parts.get(piece, piece) for piece in _pieces(_asset("report.html")))
    return Report(html.encode("utf-8", "replace"), len(kept), left_out, longest)


def _that_fit(pages: Iterable[Page], most: int) -> tuple[list[Page], int]:
    """The first pages, as many as fit with their texts at the shortest, and how many are left out."""
    kept, left_out = list[Page](), 0
    for page in pages:
        most -= _size(embedded(cut(page.body, LIMITS[-1])))
        if most < 0:
            left_out += 1
        else:
            kept.append(page)
    return kept, left_out


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def embedded(value: Any) -> str:
    """A value as JSON that can't end the element that it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def cut(value: Any, longest: int) -> Any:
    """The value with every text in it cut to that many characters, and saying so."""
    if isinstance(value, str):
        if len(value) <= longest:
            return value
        return f"{value[:longest]}… (cut here: {longest:,} of {len(value):,} characters; `seal-ray inspect` shows all)"
    if isinstance(value, Mapping):
        return {k: cut(v, longest) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [cut(v, longest) for v in value]
    return value


def _policy(script: str, style: str) -> str:
    """Nothing but this very script and style may run here, and nothing is fetched."""

    def named(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {named(script)}; style-src {named(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    """The parts as one script with a scope of its own."""
    return '(() => {\n"use strict";\n' + "\n".join(_asset(name) for name in SCRIPTS) + "})();\n"


def _asset(name: str) -> str:
    return (files("seal_ray.observe") / "page" / name).read_text(encoding="utf-8")


def _pieces(template: str) -> list[str]:
    """The template and the names of what goes in, in turn, so that nothing put in is looked at again."""
    pieces = [template]
    for place in PLACES:
        before, after = pieces.pop().split(place)
        pieces += [before, place, after]
    return pieces

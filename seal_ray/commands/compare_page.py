"""Runs side by side as one HTML file: their learning curves drawn, and the tables of `compare` as they are printed."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from seal_ray.commands.compare import show
from seal_ray.commands.private_files import write_private
from seal_ray.observe.curve_picture import Panel, picture

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>runs side by side</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body{{font:15px sans-serif;margin:2rem;color:#222}}pre{{overflow-x:auto}}svg{{max-width:100%}}</style>
</head><body><h1>Runs side by side</h1>
<ol>{runs}</ol>
{curves}<pre>{tables}</pre>
</body></html>
"""
MEASURES = {"accuracy": "held-out tasks: accuracy of the mean edit", "likelihood": "held-out tasks: likelihood"}


def write(compared: Mapping[str, Any], to: Path) -> None:
    page = PAGE.format(
        runs="".join(f"<li>{escape(run['uri'])}</li>" for run in compared["runs"]),
        curves=_curves(compared["runs"]),
        tables=escape(show(dict(compared))),
    )
    write_private(to, page)


def _curves(runs: Sequence[Mapping[str, Any]]) -> str:
    """Drawings of what runs measured on held-out tasks; nothing where none of them looked."""
    panels = []
    for measure, title in MEASURES.items():
        lines = {str(n): [_line(run["curve"], measure)] for n, run in enumerate(runs, 1)}
        if any(points for own in lines.values() for points in own):
            panels.append(Panel(title, lines, shares=measure == "accuracy"))
    return picture(panels) if panels else "<p>None of them was tried on held-out tasks (evaluation.every).</p>\n"


def _line(curve: Sequence[Mapping[str, Any]], measure: str) -> dict[int, float]:
    """By the number of rounds that the version has behind it."""
    known = {point["after"]: (point["arms"].get("edit") or {}).get(measure) for point in curve}
    return {after: estimate["mean"] for after, estimate in known.items() if estimate}

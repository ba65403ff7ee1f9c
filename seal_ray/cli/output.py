"""What a command prints: words for a person, or JSON for a program."""

import json
from typing import Any

import typer

from seal_ray.text import harmless_json, printable


def show(data: Any, text: str, as_json: bool, *, one_line: bool = False) -> None:
    """`one_line`: JSON that has another document after it."""
    indent = None if one_line else 2
    typer.echo(harmless_json(json.dumps(data, indent=indent, ensure_ascii=False)) if as_json else printable(text))

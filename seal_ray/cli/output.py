"""What a command prints: words for a person, or JSON for a program."""

import json
from typing import Any

import typer

from seal_ray.text import harmless_json, printable


def show(data: Any, text: str, as_json: bool) -> None:
    typer.echo(harmless_json(json.dumps(data, indent=2, ensure_ascii=False)) if as_json else printable(text))

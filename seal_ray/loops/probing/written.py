"""A reply that should hold a question, read as data: what it lacks is for the checks to say."""

import json
from typing import Any

from seal_ray.domains.distractors import kind_of
from seal_ray.records import ProbeQuestion, Reply, Task, digest

LONGEST = 4000  # characters of a reply that are read


def read_question(task: Task, span: tuple[int, int], reply: Reply) -> ProbeQuestion:
    """The question of a reply. One that can't be read has no words, and fails its first check."""
    asked, answer = "", ""
    try:
        said: Any = json.loads(reply.text[:LONGEST])
        if isinstance(said, dict):
            asked, answer = said.get("question", ""), said.get("answer", "")
    except (ValueError, RecursionError):
        pass
    asked, answer = (" ".join(x.split()) if isinstance(x, str) else "" for x in (asked, answer))
    return ProbeQuestion(
        id=digest([task.id, list(span), reply.id])[:24],
        task=task.id,
        question=asked,
        answers=(answer,) if answer else (),
        origin="model",
        span=span,
        style=kind_of(answer),
    )

"""What is known of an edit before anything is trained on it: cheap features for the model of gain."""

import math
import re
from collections.abc import Mapping, Sequence

from seal_ray.domains.prompts import entities
from seal_ray.grading.diversity import similarity
from seal_ray.records import Description, Edit, Json

LONGEST_CHOICE = 40  # characters

_WORD = re.compile(r"\w+")


def features_of(edits: Sequence[Edit], about: Description | None) -> dict[str, dict[str, float]]:
    """By edit of one task. `about`: the task in words, where its domain says it."""
    return {e.id: _of(e, [o for o in edits if o.id != e.id], about) for e in edits if not e.failure}


def _of(edit: Edit, siblings: Sequence[Edit], about: Description | None) -> dict[str, float]:
    text = edit.text
    words = _WORD.findall(text.casefold())
    lines = [line for line in text.splitlines() if line.strip()]
    features = {
        "tokens": math.log1p(len(edit.ids)),
        "lines": math.log1p(len(lines)),
        "words a line": len(words) / max(1, len(lines)),
        "different words": len(set(words)) / max(1, len(words)),
        "questions": text.count("?") / max(1, len(lines)),
        "log-probability": sum(edit.logprobs) / max(1, len(edit.logprobs)),
        "cut off": float(edit.finish == "length"),
        "likeness to siblings": max((similarity(text, o.text) for o in siblings), default=0.0),
    }
    if edit.style:
        features[f"style {edit.style}"] = 1.0
    if about:
        features |= _beside(text, words, about)
    return features | _settings(edit.content)


def _beside(text: str, words: Sequence[str], about: Description) -> dict[str, float]:
    """How the edit stands to what is to be learned."""
    passage = set(_WORD.findall(about.text.casefold()))
    own, names = set(words), entities(about.title, about.text)
    folded = text.casefold()
    return {
        "words of the passage": len(own & passage) / max(1, len(own)),
        "passage covered": len(own & passage) / max(1, len(passage)),
        "names covered": sum(n.casefold() in folded for n in names) / max(1, len(names)),
    }


def _settings(content: Json) -> dict[str, float]:
    """Directives are what they are: numbers on a logarithmic scale, a choice as yes or no. A text is no setting."""
    if not isinstance(content, Mapping):
        return {}
    features: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, bool):
            features[f"{key}"] = float(value)
        elif isinstance(value, (int, float)):
            features[f"{key}"] = math.log(value) if value > 0 else 0.0
        elif isinstance(value, str) and len(value) <= LONGEST_CHOICE and len(value.split()) == 1:
            features[f"{key} {value}"] = 1.0
    return features

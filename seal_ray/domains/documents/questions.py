"""Questions that people wrote, each given to the passage that answers it."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from math import fsum, isfinite, log

from seal_ray.domains.documents.survey import SurveyedPassage
from seal_ray.domains.passages import HALF_A_PAIR
from seal_ray.errors import DataError
from seal_ray.records import Json
from seal_ray.text import lone_surrogate, unwrapped, whole_words

WORD = re.compile(r"\w+")
FORM = 'write a list of {"question": …, "answer": … or "answers": […], "document": …}'
Placed = list[dict[str, list[str]]]  # for each passage, its questions with all their answers


def place(
    uri: str, read: Callable[[str], bytes], passages: Sequence[SurveyedPassage], warn: Callable[[str], None]
) -> Placed:
    """Each question goes to the passage that holds an answer and shares the rarest words with it.

    `document`, where it is given, names the file. What no passage answers is told to `warn`.
    """
    placed: Placed = [{} for _ in passages]
    folded = [unwrapped(p.passage.text).casefold() for p in passages]
    words = [Counter(_words(f"{p.passage.title} {p.passage.text}")) for p in passages]
    seen_in = Counter(w for own in words for w in own)
    lost: list[str] = []
    for where, row in _rows(uri, read):
        question, golds, document = _checked(uri, where, row)
        asked = set(_words(question))
        among = [n for n, p in enumerate(passages) if not document or p.document == document]
        if document and not among:
            raise DataError(f"domain.questions: {uri}, {where}: there is no document {document!r}", hint="name a file")
        holding = _holding(among, folded, [unwrapped(g).casefold() for g in golds])
        if not holding:
            lost.append(question)
            continue
        rare = {w: log(1 + len(passages) / seen_in[w]) for w in asked if w in seen_in}
        # a plain sum would depend on the order of a set, which is another in each process
        best = max(holding, key=lambda n: (fsum(rare[w] for w in rare if w in words[n]), -n))
        placed[best][question] = list(dict.fromkeys([*placed[best].get(question, ()), *golds]))
    if lost:
        warn(f"{uri}: {len(lost)} questions have an answer that stands in no passage and are left out: {lost[0]!r}")
    return placed


def _holding(among: Sequence[int], folded: Sequence[str], golds: Sequence[str]) -> list[int]:
    """The passages that have an answer as whole words; where none has, as parts of words: some scripts part none."""
    parts = [n for n in among if any(g in folded[n] for g in golds)]
    return [n for n in parts if any(whole_words(g, folded[n]) for g in golds)] or parts


def _rows(uri: str, read: Callable[[str], bytes]) -> list[tuple[str, Json]]:
    try:
        text = read(uri).decode("utf-8-sig")
        listed = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(x) for x in text.split("\n") if x.strip()]
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"domain.questions: {uri} is not JSON: {str(error)[:200]}", hint=FORM) from None
    return [(f"entry {number}", row) for number, row in enumerate(listed, 1)]


def _checked(uri: str, where: str, row: Json) -> tuple[str, list[str], str]:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise DataError(f"domain.questions: {uri}, {where} has no question", hint=FORM)
    given = row.get("answers", row.get("answer"))
    listed = [g for g in (given if isinstance(given, list) else [given]) if isinstance(g, (str, int, float))]
    if odd := next((g for g in listed if isinstance(g, float) and not isfinite(g)), None):
        raise DataError(f"domain.questions: {uri}, {where} has the answer {odd}", hint="give a number that is one")
    golds = list(dict.fromkeys(text for g in listed if (text := str(g).strip())))
    if any(map(lone_surrogate, (row["question"], *golds))):
        raise DataError(f"domain.questions: {uri}, {where} {HALF_A_PAIR[0]}", hint=HALF_A_PAIR[1])
    if not golds:
        raise DataError(f"domain.questions: {uri}, {where} has no answer", hint=FORM)
    document = row.get("document", "")
    return row["question"].strip(), golds, document if isinstance(document, str) else ""


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())

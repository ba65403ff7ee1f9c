"""How far versions move from the one that a stream begins with: KL in nats per token, on what that one writes.

The first version writes whatever comes to it, prompted by nothing. How likely a later version finds each of these
texts says how far it has moved. What is written is kept as text and read as tokens anew.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from seal_ray import models
from seal_ray.loops.session import Session
from seal_ray.loops.studying.trials import BETWEEN, Exam, StudyRequest, record, study_all
from seal_ray.records import Ask, Json, Trial, Version
from seal_ray.storage.ledger import RoundLedger

WRITTEN = "written.json"
NAME = "written"
TEXTS, TOKENS = 32, 32
MOST = 50.0  # of a log of a ratio, so that its exponential is a number


def write(session: Session, part: RoundLedger, version: Version) -> Json:
    """What the version writes, for the ledger: the token that it began after, and the texts as tokens."""
    starts = (session.tokenizer.bos_token_id, session.tokenizer.eos_token_id)
    token = next((t for t in starts if t is not None), None)
    if token is None:
        return {"texts": []}
    anything = Ask(f"{NAME}{BETWEEN}", (token,), (), TOKENS, (), temperature=1.0, samples=TEXTS)
    trials = study_all(session, part, version, [StudyRequest(NAME, None, Exam((), more=(anything,)))])
    record(part, trials)
    texts = [models.text_ids(session.tokenizer, answer.text) for answer in trials[0].answers]
    return {"after": token, "texts": [ids for ids in texts if ids]}


def asks(written: Json | None) -> tuple[Ask, ...]:
    """How likely each of the texts is. A stream that began before any were written has none."""
    texts: Iterable[list[int]] = (written or {}).get("texts", ())
    return tuple(
        Ask(f"{NAME}{BETWEEN}{number}", (written["after"],), (tuple(ids),), 1)
        for number, ids in enumerate(texts)
        if written
    )


def expected(trial: Trial) -> Json:
    """The log-probability of each of these texts, for the ledger."""
    own = {x.question: x for x in trial.likelihoods if x.question.startswith(f"{NAME}{BETWEEN}")}
    return {"tokens": sum(x.tokens for x in own.values()), "logprobs": {q: x.logprob for q, x in own.items()}}


def kl(first: Mapping[str, Any] | None, later: Mapping[str, Any] | None) -> float | None:
    """KL(first || later) in nats per token, by an estimate that is never below 0 and right on the mean: of each text
    r - 1 - log r, where r is how much likelier the later version finds it."""
    if not first or not later or not first["tokens"] or not later["tokens"]:
        return None
    told = [later["logprobs"][text] - logprob for text, logprob in first["logprobs"].items()]
    return sum(math.expm1(min(r, MOST)) - r for r in told) / first["tokens"]

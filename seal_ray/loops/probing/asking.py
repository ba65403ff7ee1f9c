"""Asking a version many things: each reply is in the ledger before it counts, and nothing is asked twice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seal_ray import models
from seal_ray.errors import InfraError
from seal_ray.events import ProbeAsked
from seal_ray.loops.session import Session
from seal_ray.records import AskedFor, Edit, Json, Prompt, Reply, Version, derive_seed, digest
from seal_ray.sampling.sampler import EditPrompt
from seal_ray.storage.ledger import RoundLedger


@dataclass(frozen=True)
class ProbeRequest:
    """One thing to ask. `about` and `number` tell the requests of a purpose apart."""

    task: str
    purpose: AskedFor
    about: str
    prompt: Prompt
    number: int = 0
    temperature: float = 0.0
    max_tokens: int = 24
    schema: Mapping[str, Json] | None = None
    stop: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.about, self.number


Replies = dict[tuple[str, int], Reply]  # by what a request was about, and its number


def ask(session: Session, part: RoundLedger, version: Version, requests: Sequence[ProbeRequest]) -> Replies:
    """A reply for each request: what the ledger has, and what the version says now."""
    if not requests:
        return {}
    asked = {_identity(session, version, r): r for r in requests}
    known: dict[str, Reply] = {i: r for i, r in part.records("replies").items() if i in asked}
    missing = [i for i in asked if i not in known]
    purpose, total = requests[0].purpose, len(asked)
    if missing:
        session.tell(ProbeAsked(purpose, len(known), total))
        for identity, reply in _sampled(session, version, {i: asked[i] for i in missing}):
            if not (reply.failure and reply.failure.blame == "infra"):
                part.append("replies", reply)
                known[identity] = reply
            if len(known) % session.config.probe.chunk == 0 or len(known) == total:
                session.tell(ProbeAsked(purpose, len(known), total))
        part.flush()
    lost = [i for i in asked if i not in known]
    if lost:
        raise InfraError(
            f"{len(lost)} of {total} replies of a probe ({purpose}) could not be had",
            hint="the same command asks for what is missing",
        )
    return {asked[i].key: known[i] for i in asked}


def _identity(session: Session, version: Version, request: ProbeRequest) -> str:
    prompt = request.prompt
    said = [prompt.text, prompt.system, prompt.prefix, prompt.chat]
    how = [request.temperature, request.max_tokens, list(request.stop)]
    schema = dict(request.schema) if request.schema else None
    about = [request.task, request.purpose, request.about, request.number]
    return digest([version.digest, about, said, how, schema, session.config.run.seed])[:32]


def _sampled(session: Session, version: Version, missing: Mapping[str, ProbeRequest]) -> Iterator[tuple[str, Reply]]:
    """Each reply as it comes in, by its request's identity."""
    size = session.config.probe.chunk
    names = list(missing)
    samplers = session.crew.samplers(version, session.adapter(version))
    waiting: dict[str, list[str]] = {}
    for start in range(0, len(names), size):
        chunk = names[start : start + size]
        name = f"probe-{chunk[0]}"
        waiting[name] = chunk
        samplers.submit(name, [_prompt(session, missing[i]) for i in chunk])
    while waiting:
        session.tick()
        for name, edits in samplers.poll(0.2):
            chunk = waiting.pop(name, [])
            for identity, edit in zip(chunk, edits, strict=True):
                yield identity, _reply(identity, missing[identity], edit)


def _prompt(session: Session, request: ProbeRequest) -> EditPrompt:
    thinks = request.prompt.chat and models.thinks(session.tokenizer)
    return EditPrompt(
        task=request.task,
        slot=request.number,
        prompt_ids=tuple(models.render(session.tokenizer, request.prompt)),
        seed=derive_seed(session.config.run.seed, request.task, request.purpose, request.about, request.number),
        temperature=request.temperature,
        top_p=1.0,
        max_tokens=request.max_tokens,
        schema=request.schema,
        stop=() if thinks else request.stop,
    )


def _reply(identity: str, request: ProbeRequest, edit: Edit) -> Reply:
    total = math.fsum(edit.logprobs)
    return Reply(
        id=identity,
        task=request.task,
        purpose=request.purpose,
        about=request.about,
        version=edit.version,
        seed=edit.seed,
        text=edit.text,
        logprob=total if math.isfinite(total) else 0.0,
        tokens=len(edit.ids),
        finish=edit.finish,
        failure=edit.failure,
    )

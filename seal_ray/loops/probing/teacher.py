"""Questions by a teacher: a larger model writes them, and the base's own answers still say which can be trusted.

What it wrote is kept and never asked for again. Its texts are read as any model's are: as data, under the same checks.
"""

from collections.abc import Sequence

from seal_ray.errors import InfraError
from seal_ray.events import ProbeAsked
from seal_ray.loops.probing.asking import ProbeRequest, Replies
from seal_ray.loops.session import Session
from seal_ray.loops.teachers import teacher_endpoint
from seal_ray.records import Failure, Json, Reply, derive_seed, digest
from seal_ray.storage.ledger import RoundLedger


def ask_teacher(session: Session, part: RoundLedger, requests: Sequence[ProbeRequest]) -> Replies:
    """A reply for each request: what the ledger has, and what the teacher says now."""
    section, seed = session.config.probe, session.config.run.seed
    asked = {
        digest([section.teacher_url, section.teacher_model, r.about, r.number, r.prompt.text, seed])[:32]: r
        for r in requests
    }
    known: dict[str, Reply] = {i: r for i, r in part.records("replies").items() if i in asked}
    missing, lost = [i for i in asked if i not in known], ""
    if missing:
        endpoint = teacher_endpoint(section.teacher_url, section.teacher_model, session.config.grading)
        try:
            for start in range(0, len(missing), section.chunk):
                session.tick()
                chunk = missing[start : start + section.chunk]
                texts = endpoint.ask([_body(asked[i], seed) for i in chunk], lambda reply: reply.text)
                for identity, text in zip(chunk, texts, strict=True):
                    if isinstance(text, Failure):
                        lost = text.message
                        continue
                    known[identity] = _reply(identity, asked[identity], section.teacher_model, text, seed)
                    part.append("replies", known[identity])
                part.flush()
                session.tell(ProbeAsked("write", len(known), len(asked)))
        finally:
            endpoint.close()
    if lost:
        raise InfraError(
            f"{len(asked) - len(known)} of {len(asked)} questions could not be had from the teacher: {lost}",
            hint="check probe.teacher_url; the same command asks for what is missing",
        )
    return {asked[i].key: known[i] for i in asked}


def _body(request: ProbeRequest, seed: int) -> Json:
    schema = {"name": "question", "strict": True, "schema": dict(request.schema or {})}
    return {
        "messages": [{"role": "user", "content": request.prompt.text}],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "seed": _seed(request, seed),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def _seed(request: ProbeRequest, seed: int) -> int:
    return derive_seed(seed, request.task, request.purpose, request.about, request.number)


def _reply(identity: str, request: ProbeRequest, model: str, text: str, seed: int) -> Reply:
    who, own = f"teacher {model}", _seed(request, seed)
    return Reply(identity, request.task, request.purpose, request.about, who, own, text, 0.0, 0, "stop")

"""One question to a version and to its base, side by side: here, or through a server that is up."""

from dataclasses import dataclass
from typing import Any

import httpx

from seal_ray import models
from seal_ray.commands.served import BASE, Served, nearest_topic
from seal_ray.domains.questions import question_prompt
from seal_ray.errors import InfraError
from seal_ray.records import Json
from seal_ray.text import after_thought, first_line

STOP = ("\n",)
TIMEOUT = 120.0  # seconds for one answer


@dataclass(frozen=True)
class SideBySide:
    question: str
    topic: str
    answers: dict[str, str]  # by name: the base first


def ask(
    served: Served, question: str, *, topic: str | None = None, max_tokens: int = 64, device: str = "cpu"
) -> SideBySide:
    """Ask here, with an engine that goes when it has answered."""
    from seal_ray.sampling.engine import LORA_RANKS, Engine, EngineSettings, GenerateRequest

    topic, ids, stop = _prompt(served, question, topic)
    settings = EngineSettings(
        device="gpu" if device == "gpu" else "cpu",
        dtype=served.model.dtype,
        max_length=min(served.model.max_length, len(ids) + max_tokens + 1),
        lora_rank=next((r for r in LORA_RANKS if r >= served.rank), 0) if served.rank else 0,
        trust_remote_code=served.model.trust_remote_code,
    )
    names = [BASE, *served.adapters]
    engine = Engine(served.base, settings)
    try:
        request = GenerateRequest(tuple(ids), seed=0, temperature=0.0, max_tokens=max_tokens, stop=stop)
        said = engine.generate([request] * len(names), [None, *served.adapters.values()])
    finally:
        engine.close()
    return SideBySide(question, topic, {n: _clean(s.text) for n, s in zip(names, said, strict=True)})


def ask_server(
    url: str, key: str, served: Served, question: str, *, topic: str | None = None, max_tokens: int = 64
) -> SideBySide:
    """Ask every model of a server that `serve` started."""
    topic, ids, stop = _prompt(served, question, topic)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url.rstrip("/").removesuffix("/v1"), headers=headers, timeout=TIMEOUT) as client:
        names = [m["id"] for m in _json(client.get("/v1/models"))["data"]]
        answers = {}
        for name in sorted(names, key=lambda n: (n != BASE, n)):
            body = {"model": name, "prompt": list(ids), "max_tokens": max_tokens, "temperature": 0, "stop": list(stop)}
            answers[name] = _clean(_json(client.post("/v1/completions", json=body))["choices"][0]["text"])
    return SideBySide(question, topic, answers)


def _prompt(served: Served, question: str, topic: str | None) -> tuple[str, list[int], tuple[str, ...]]:
    topic = nearest_topic(question, served.topics) if topic is None else topic
    tokenizer = models.tokenizer(
        served.base, trust_remote_code=served.model.trust_remote_code, thinking=served.model.thinking
    )
    prompt = question_prompt(topic, question, chat=served.chat)
    return topic, models.render(tokenizer, prompt), () if served.chat and models.thinks(tokenizer) else STOP


def _json(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise InfraError(
            f"{response.request.url} answers {response.status_code}: {first_line(response.text, 200)}",
            hint="a 401 wants the server's token in SEAL_RAY_SERVE_KEY" if response.status_code == 401 else "",
        )
    return response.json()


def _clean(text: str) -> str:
    return " ".join(after_thought(text, STOP).split())


def as_data(said: SideBySide) -> dict[str, Json]:
    return {"question": said.question, "topic": said.topic, "answers": dict(said.answers)}


def show(said: SideBySide) -> str:
    width = max(map(len, said.answers))
    head = said.question + (f"   (asked under the topic {said.topic})" if said.topic else "")
    return "\n".join([head, *(f"  {name:<{width}}  {text or '(nothing)'}" for name, text in said.answers.items())])

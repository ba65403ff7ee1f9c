"""One question to a version and to its base, side by side: here, or through a server that is up."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from seal_ray import models
from seal_ray.commands.served import BASE, BEGINNING, Served, nearest_topic, step_adapter, step_adapters, step_name
from seal_ray.domains.questions import question_prompt
from seal_ray.errors import ConfigError, InfraError
from seal_ray.records import Json
from seal_ray.text import after_thought, first_line, storable

STOP = ("\n",)
TIMEOUT = 120.0  # seconds for one answer
LARGEST_REPLY = 1 << 20  # bytes
MOST_MODELS = 64
HINTS = {
    401: "a 401 wants the server's token in SEAL_RAY_SERVE_KEY",
    404: "is this a server that `seal-ray serve` started for this run?",
}


@dataclass(frozen=True)
class SideBySide:
    question: str
    topic: str
    answers: dict[str, str]  # by name: the base first
    chosen: str = ""  # of a stream whose steps have an adapter each: who was chosen to answer


@dataclass(frozen=True)
class _QuestionPrompt:
    """A question as it is put: in words, and as tokens."""

    topic: str
    text: str
    ids: tuple[int, ...]
    stop: tuple[str, ...]


def ask(
    served: Served, question: str, *, topic: str | None = None, max_tokens: int = 64, device: str = "cpu"
) -> SideBySide:
    """Ask here, with an engine that goes when it has answered."""
    from seal_ray.sampling.engine import Engine, EngineSettings, GenerateRequest

    asked = _asked(served, question, topic)
    offered: dict[str, str | None] = {BASE: None, **_offered(served, asked)}
    settings = EngineSettings(
        device="gpu" if device == "gpu" else "cpu",
        dtype=served.model.dtype,
        max_length=min(served.model.max_length, len(asked.ids) + max_tokens + 1),
        lora_rank=max((models.adapter_rank(folder) for folder in offered.values() if folder), default=0),
        brief=True,
        trust_remote_code=served.model.trust_remote_code,
    )
    engine = Engine(served.base, settings)
    try:
        if served.steps and served.steps.router == "likelihood":
            steps = {n: folder for n, folder in offered.items() if n != BASE or BEGINNING not in offered}
            scores = engine.score([asked.ids] * len(steps), list(steps.values()))
            likeliest = _likeliest(dict(zip(steps, scores, strict=True)))
            offered = {BASE: None, likeliest: offered[likeliest]}
        request = GenerateRequest(asked.ids, seed=0, temperature=0.0, max_tokens=max_tokens, stop=asked.stop)
        said = engine.generate([request] * len(offered), list(offered.values()))
    finally:
        engine.close()
    answers = {n: _clean(s.text) for n, s in zip(offered, said, strict=True)}
    return SideBySide(question, asked.topic, answers, list(offered)[-1] if served.steps else "")


def ask_server(
    url: str, key: str, served: Served, question: str, *, topic: str | None = None, max_tokens: int = 64
) -> SideBySide:
    """Ask every model of a server that `serve` started; of a stream's steps the one that the question chooses."""
    asked = _asked(served, question, topic)
    chosen = _chosen_by_words(served, asked)
    with _client(url, key) as client:
        names = dict.fromkeys([BASE, chosen]) if chosen else _names(_reply(client, "GET", "/v1/models"))
        answers = {}
        for name in sorted(names, key=lambda n: (n != BASE, n)):
            body = {"model": name, "prompt": list(asked.ids), "max_tokens": max_tokens, "temperature": 0}
            answers[name] = _clean(_text(_reply(client, "POST", "/v1/completions", body | {"stop": list(asked.stop)})))
    return SideBySide(question, asked.topic, answers, chosen)


def _asked(served: Served, question: str, topic: str | None) -> _QuestionPrompt:
    question = storable(question)  # a terminal may give bytes that are no text
    topic = nearest_topic(question, served.topics) if topic is None else storable(topic)
    tokenizer = models.tokenizer(
        served.base, trust_remote_code=served.model.trust_remote_code, thinking=served.model.thinking
    )
    prompt = question_prompt(topic, question, chat=served.chat)
    stop = () if served.chat and models.thinks(tokenizer) else STOP
    return _QuestionPrompt(topic, prompt.text, tuple(models.render(tokenizer, prompt)), stop)


# a stream whose steps have an adapter each


def _offered(served: Served, asked: _QuestionPrompt) -> dict[str, str | None]:
    """The adapters that may answer, by name; words choose before an engine is started."""
    if served.steps is None:
        return dict(served.adapters)
    if served.steps.router == "likelihood":
        return dict(step_adapters(served.steps, served.scratch))
    step = served.steps.by_words(asked.text, served.base, chat=served.chat)
    return {step_name(served.steps, step): step_adapter(served.steps, step, served.scratch)}


def _chosen_by_words(served: Served, asked: _QuestionPrompt) -> str:
    """The name of the step whose texts share the most with the question; empty where there are no steps."""
    if served.steps is None:
        return ""
    if served.steps.router == "likelihood":
        raise ConfigError(
            "--server: the adapters of this stream are chosen by likelihood (study.keep.router), which a server does "
            "not tell",
            hint="leave --server out, or ask one of them by its name over HTTP",
        )
    return step_name(served.steps, served.steps.by_words(asked.text, served.base, chat=served.chat))


def _likeliest(scores: dict[str, Sequence[float]]) -> str:
    """The name by which the question's tokens are the likeliest; of equals the last."""
    means = {name: sum(own) / len(own) for name, own in scores.items()}
    return max(reversed(means), key=lambda name: means[name])


# a server is asked in good faith, and believed in nothing


def _client(url: str, key: str) -> httpx.Client:
    try:
        base = httpx.URL(url.rstrip("/").removesuffix("/v1"))
    except (httpx.InvalidURL, ValueError):
        base = httpx.URL()
    if base.scheme not in {"http", "https"} or not base.host:
        raise ConfigError("--server: not a URL", hint="write it as `seal-ray serve` shows it: http://HOST:PORT/v1")
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    # no proxy of the environment: it would read the token
    trusted = httpx.create_ssl_context()
    return httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT, trust_env=False, verify=trusted)


def _reply(client: httpx.Client, method: str, path: str, body: Json = None) -> Any:
    """What the server says, as plain data: whole, within limits of time and size, or an error in words."""
    until, parts, size = time.monotonic() + TIMEOUT, list[bytes](), 0
    try:
        with client.stream(method, path, json=body) as response:
            for chunk in response.iter_raw():  # nothing is unpacked: a small reply must not become a large one
                parts.append(chunk)
                size += len(chunk)
                if size > LARGEST_REPLY or time.monotonic() > until:
                    raise InfraError(f"{_shown(client, path)}: no whole reply of less than {LARGEST_REPLY} bytes came")
    except httpx.LocalProtocolError:
        raise InfraError(f"{_shown(client, path)}: the HTTP library did not take the request") from None
    except httpx.HTTPError as error:
        hint = "check the address, and that `seal-ray serve` is up there"
        raise InfraError(f"{_shown(client, path)}: {type(error).__name__}: {error}", hint=hint) from None
    data = b"".join(parts)
    if response.status_code != 200:
        said = first_line(data.decode(errors="replace"), 200)
        raise InfraError(
            f"{_shown(client, path)} answers {response.status_code}: {said}",
            hint=HINTS.get(response.status_code, ""),
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise _strange(f"{_shown(client, path)}: a reply that is no JSON") from None


def _names(reply: Any) -> list[str]:
    listed = reply.get("data") if isinstance(reply, dict) else None
    names = [m.get("id") for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    texts = [storable(n) for n in names if isinstance(n, str)]
    if not 0 < len(texts) <= MOST_MODELS:
        raise _strange(f"the server names {len(texts)} models")
    return texts


def _text(reply: Any) -> str:
    try:
        text = reply["choices"][0]["text"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise _strange("the server gives no text for an answer")
    return storable(text)


def _strange(why: str) -> InfraError:
    return InfraError(why, hint="is this a server that `seal-ray serve` started?")


def _shown(client: httpx.Client, path: str) -> str:
    base = client.base_url
    return str(base.copy_with(username=None, password=None, query=None, path=path))


def _clean(text: str) -> str:
    return " ".join(after_thought(text, STOP).split())


def as_data(said: SideBySide) -> dict[str, Json]:
    chosen = {"chosen": said.chosen} if said.chosen else {}
    return {"question": said.question, "topic": said.topic, "answers": dict(said.answers), **chosen}


def show(said: SideBySide) -> str:
    width = max(map(len, said.answers))
    head = said.question + (f"   (asked under the topic {said.topic})" if said.topic else "")
    lines = [head, *(f"  {name:<{width}}  {text or '(nothing)'}" for name, text in said.answers.items())]
    if said.chosen:
        lines.append(f"  of the adapters of this stream's steps the question chose: {said.chosen}")
    return "\n".join(lines)

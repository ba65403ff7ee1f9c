"""Many questions to an OpenAI-compatible chat endpoint at once, patiently, and within limits."""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from seal_ray.errors import ConfigError
from seal_ray.records import Failure, Json, derive_seed

T = TypeVar("T")

LARGEST_REPLY = 1 << 20  # bytes
LONGEST_WAIT = 60.0  # seconds between two attempts, also where the server asks for more
HOPELESS = 8  # requests in a row that exhausted all their attempts: then, for a while, nothing is sent
REST = 30.0  # seconds of that while
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
FINAL_FOR_ALL = {401, 402, 403, 404, 405}
# what not every server knows, in the order in which it is given up
OPTIONAL = ("logprobs", "response_format", "temperature", "max_tokens")


@dataclass
class Usage:
    """What an endpoint has been used for so far."""

    calls: int = 0  # requests sent, further attempts included
    cached: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class JudgeReply:
    text: str
    logprobs: Json = None  # the server's, as they came


class Garbage(ValueError):
    """A reply that does not say what was asked for; another attempt may."""


class _Passing(Exception):
    """This attempt failed, another may not. `wait`: seconds that the server asks for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class _Final(Exception):
    """No attempt of this request can work; `everyone`: nor of any other."""

    def __init__(self, why: str, everyone: bool = False) -> None:
        super().__init__(why)
        self.everyone = everyone


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible URL. Safe to use from several threads."""

    url: str
    model: str
    key_env: str = ""
    parallel: int = 32
    timeout: float = 60.0
    retries: int = 6
    price_in: float = 0.0  # dollars per million tokens
    price_out: float = 0.0
    backoff: float = 0.5  # seconds before the second attempt; doubled for each further one
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self._key = os.environ.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not self._key:
            raise ConfigError(
                f"grading.judge_key_env: the environment variable {self.key_env} is not set",
                hint=f"export {self.key_env}, or set judge_key_env to '' for a server that asks for no key",
            )
        base = self.url.rstrip("/")
        self._target = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self._lock = threading.Lock()
        self._dropped: set[str] = set()
        self._refused = ""  # why nothing more is sent, once the server refused everyone
        self._in_vain = 0  # requests in a row that exhausted their attempts
        self._rests_until = 0.0
        limits = httpx.Limits(max_connections=self.parallel, max_keepalive_connections=self.parallel)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(timeout=self.timeout, limits=limits, headers=headers)
        self._pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="judge")

    def ask(self, bodies: Sequence[Json], understand: Callable[[JudgeReply], T]) -> list[T | Failure]:
        """What each request comes to, in order: `understand` of its reply, or why there is none."""
        return list(self._pool.map(lambda body: self._one(body, understand), bodies))

    def count_cached(self, count: int) -> None:
        with self._lock:
            self.usage.cached += count

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _one(self, body: Json, understand: Callable[[JudgeReply], T]) -> T | Failure:
        why = "it was not asked"
        attempt = 0
        while attempt <= self.retries:
            if self._refused or time.monotonic() < self._rests_until:
                why = self._refused or f"{HOPELESS} requests in a row failed before this one"
                break
            try:
                answer = understand(self._send(body))
            except (_Passing, Garbage) as error:
                why = str(error)
                wait = error.wait if isinstance(error, _Passing) else None
                if attempt < self.retries:
                    time.sleep(self._pause(attempt, wait, body))
                attempt += 1
            except _Final as error:
                why = str(error)
                if error.everyone:
                    self._refused = why
                break
            else:
                with self._lock:
                    self._in_vain = 0
                return answer
        else:
            with self._lock:
                self._in_vain += 1
                if self._in_vain >= HOPELESS:
                    self._rests_until = time.monotonic() + REST
        with self._lock:
            self.usage.failed += 1
        return Failure("judge", f"{self._shown} gave no verdict: {self._clean(why)}", "infra")

    @property
    def _shown(self) -> str:
        return f"{self.model} at {httpx.URL(self._target).copy_with(username=None, password=None, query=None)}"

    def _pause(self, attempt: int, wait: float | None, body: Json) -> float:
        """Longer each time, and spread so that requests that failed together do not come back together."""
        spread = 0.75 + derive_seed(json.dumps(body, sort_keys=True), attempt) % 1000 / 2000
        return min(LONGEST_WAIT, max(wait or 0.0, self.backoff * 2**attempt * spread))

    def _send(self, body: Json) -> JudgeReply:
        """One attempt. What a server does not know is left out from then on, and costs no attempt."""
        while True:
            dropped = set(self._dropped)
            sent = {"model": self.model, **{k: v for k, v in body.items() if k not in dropped}}
            if "logprobs" not in sent:
                sent.pop("top_logprobs", None)
            status, wait, data = self._post(sent)
            if status == 200:
                return self._reply(data)
            said = f"HTTP {status}: {data[:300].decode(errors='replace').strip()}"
            if status in PASSING or status >= 500:
                raise _Passing(said, wait)
            if status in (400, 422) and (feature := _blamed(said, sent)):
                with self._lock:
                    self._dropped.add(feature)
                continue
            raise _Final(said, everyone=status in FINAL_FOR_ALL)

    def _post(self, sent: Json) -> tuple[int, float | None, bytes]:
        with self._lock:
            self.usage.calls += 1
        until = time.monotonic() + self.timeout
        try:
            with self._client.stream("POST", self._target, json=sent) as response:
                parts, size = [], 0
                for chunk in response.iter_bytes():
                    parts.append(chunk)
                    size += len(chunk)
                    if size > LARGEST_REPLY:
                        raise _Passing(f"a reply of more than {LARGEST_REPLY} bytes")
                    if time.monotonic() > until:
                        raise _Passing(f"no whole reply within {self.timeout:g} s")
                return response.status_code, _seconds(response.headers.get("retry-after")), b"".join(parts)
        except httpx.TimeoutException:
            raise _Passing(f"no reply within {self.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _Passing(f"{type(error).__name__}: {error}") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise _Final(f"not a URL: {error}", everyone=True) from None

    def _reply(self, data: bytes) -> JudgeReply:
        try:
            reply = json.loads(data)
            choice = reply["choices"][0]
            text = choice["message"]["content"]
            usage = reply.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Garbage(f"not a chat completion: {data[:100].decode(errors='replace')!r}") from None
        with self._lock:
            self.usage.prompt_tokens += tokens[0]
            self.usage.answer_tokens += tokens[1]
            self.usage.dollars += (tokens[0] * self.price_in + tokens[1] * self.price_out) / 1e6
        if not isinstance(text, str):
            raise Garbage("the reply has no text")
        return JudgeReply(text, choice.get("logprobs"))

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _blamed(said: str, sent: dict[str, Any]) -> str:
    """Which optional part of a request the server did not like: the one it names, else the first that is left."""
    left = [feature for feature in OPTIONAL if feature in sent]
    return next((f for f in left if f in said), left[0] if left else "")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None

"""Many questions to an OpenAI-compatible chat endpoint at once, patiently, and within limits."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import httpx

from seal_ray.errors import ConfigError
from seal_ray.header_keys import key_in
from seal_ray.records import Failure, Json, derive_seed
from seal_ray.text import storable

T = TypeVar("T")

LARGEST_REPLY = 1 << 20  # bytes
LONGEST_REASON = 500  # characters
MOST_TOKENS = 10_000_000  # of one request; a server that counts more does not count
CHARACTERS_PER_TOKEN = 4  # where a server does not say how many tokens it took
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
        self._key = _key_in(self.key_env) if self.key_env else ""
        self._forms = {self._key, repr(self._key)[1:-1], json.dumps(self._key)[1:-1]} if self._key else set()
        self._target = _chat(self.url)
        self._lock = threading.Lock()
        self._dropped: set[str] = set()
        self._refused = ""  # why nothing more is sent, once the server refused everyone
        self._in_vain = 0  # requests in a row that exhausted their attempts
        self._rests_until = 0.0
        limits = httpx.Limits(max_connections=self.parallel, max_keepalive_connections=self.parallel)
        # no compression: a small reply must not become a large one
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
            if "api-version" in self._target.params:  # Azure's own way to be told the key
                headers["api-key"] = self._key
        self._client = httpx.Client(verify=_trusted(), timeout=self.timeout, limits=limits, headers=headers)
        self._pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="endpoint")

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
        return Failure("judge", f"{self._shown} gave no usable reply: {self._clean(why)[:LONGEST_REASON]}", "infra")

    @property
    def _shown(self) -> str:
        return f"{self.model} at {self._target.copy_with(username=None, password=None, query=None)}"

    def _pause(self, attempt: int, wait: float | None, body: Json) -> float:
        """Longer each time, and spread so that requests that failed together do not come back together."""
        spread = 0.75 + derive_seed(json.dumps(body, sort_keys=True), attempt) % 1000 / 2000
        return min(LONGEST_WAIT, max(wait or 0.0, self.backoff * 2**attempt * spread))

    def _send(self, body: Json) -> JudgeReply:
        """One attempt. What a server does not know is left out from then on, and costs no attempt.

        It is known once the same request was taken without: one that is wrong in itself takes nothing from the others.
        """
        left_out = set(self._dropped)
        while True:
            sent = {"model": self.model, **{k: v for k, v in body.items() if k not in left_out}}
            if "logprobs" not in sent:
                sent.pop("top_logprobs", None)
            status, wait, data = self._post(sent)
            if status == 200:
                with self._lock:
                    self._dropped |= left_out
                return self._reply(data, sent)
            said = f"HTTP {status}: {self._excerpt(data, 300)}"
            if status in PASSING or status >= 500:
                raise _Passing(said, wait)
            if status in (400, 422) and (feature := _blamed(said, sent)):
                left_out.add(feature)
                continue
            raise _Final(said, everyone=status in FINAL_FOR_ALL)

    def _post(self, sent: Json) -> tuple[int, float | None, bytes]:
        with self._lock:
            self.usage.calls += 1
        until = time.monotonic() + self.timeout
        try:
            # as ASCII: half a surrogate pair has no other form
            content = json.dumps(sent).encode()
            with self._client.stream("POST", self._target, content=content) as response:
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
        except httpx.LocalProtocolError:
            # the error's own words may quote the headers, and they hold the key
            raise _Passing("the HTTP library did not take the request") from None
        except httpx.HTTPError as error:
            raise _Passing(f"{type(error).__name__}: {error}") from None

    def _reply(self, data: bytes, sent: Json) -> JudgeReply:
        try:
            reply = json.loads(data)
            self._count(reply, sent)
            choice = reply["choices"][0]
            text = choice["message"]["content"]
            logprobs = choice.get("logprobs")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Garbage(f"not a chat completion: {self._excerpt(data, 100)!r}") from None
        if not isinstance(text, str):
            raise Garbage("the reply has no text")
        return JudgeReply(self._clean(storable(text)), logprobs)

    def _count(self, reply: Json, sent: Json) -> None:
        """Put down what a reply has cost: by the server's count where that can be one, else by the texts' length."""
        usage = reply["usage"] if isinstance(reply, dict) and "usage" in reply else {}
        asked = _tokens(usage, "prompt_tokens", sent)
        said = _tokens(usage, "completion_tokens", reply)
        with self._lock:
            self.usage.prompt_tokens += asked
            self.usage.answer_tokens += said
            self.usage.dollars += (asked * self.price_in + said * self.price_out) / 1e6

    def _excerpt(self, data: bytes, characters: int) -> str:
        """How a reply begins, as it may be told: without the key, also where the cut goes through it."""
        return self._clean(data.decode(errors="replace"))[:characters].strip()

    def _clean(self, text: str) -> str:
        """The text without the key, however a server or a library has quoted it."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that count here. Reading them takes longer than a request."""
    return httpx.create_ssl_context()


def _key_in(variable: str) -> str:
    key = key_in(variable)
    if not key:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            hint=f"export {variable}; for a judge that asks for no key set grading.judge_key_env to ''",
        )
    return key


def _chat(url: str) -> httpx.URL:
    """Where chat completions are asked for under a base URL, whose query stays (Azure puts its version there)."""
    try:
        base = httpx.URL(url)
        path = base.path.rstrip("/")
        target = base.copy_with(path=path if path.endswith("/chat/completions") else f"{path}/chat/completions")
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise ConfigError(f"an endpoint's address is not a URL: {error}", hint="write it as https://HOST/v1") from None
    sound = target.scheme in {"http", "https"} and target.host and not any(c.isspace() for c in url)
    if not sound or not 0 < (target.port or 80) < 65536:
        raise ConfigError("an endpoint's address is not a URL of http or https", hint="write it as https://HOST/v1")
    return target


def _tokens(usage: Json, name: str, text: Json) -> int:
    """The server's count of tokens; where it gives none that can be one, by the length of what was sent or said."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not 0 <= count <= MOST_TOKENS:
        return len(json.dumps(text)) // CHARACTERS_PER_TOKEN
    return int(count)


def _blamed(said: str, sent: dict[str, Any]) -> str:
    """Which optional part of a request the server did not like: the one it names, else the first that is left."""
    left = [feature for feature in OPTIONAL if feature in sent]
    return next((f for f in left if f in said), left[0] if left else "")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None

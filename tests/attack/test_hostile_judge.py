"""A judge that means harm: garbage is recorded as garbage, spending is finite and never negative, no key leaves."""

import json
import math
import random
from typing import Any

import httpx
import pytest
from amounts import AMOUNTS
from judge_server import JudgeReply, says, serving
from seeds import drawing

from seal_ray.errors import ConfigError
from seal_ray.grading.endpoint import Endpoint
from seal_ray.grading.judge import JudgeGrader
from seal_ray.grading.rubric import AXES, rate
from seal_ray.records import Description, Edit, Failure, canonical

KEY = "sk-SECRET\\with'marks\"0123456789"
ITEMS = [(f"Question {n}?", ("gold",), "gold") for n in range(8)]


def reply(text: Any = '{"correct": "yes"}', usage: Any = None, logprobs: Any = None) -> JudgeReply:
    choice = {"message": {"content": text}, "logprobs": logprobs}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


def ask(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, "judge", **{"retries": 0, "backoff": 0.001, "price_in": 3.0, "price_out": 9.0, **options})


HOSTILE: dict[str, JudgeReply] = {
    "deep lists": (200, {}, b"[" * 200_000),
    "deep objects": (200, {}, b'{"a":' * 200_000),
    "deep text": reply('{"correct":' * 50_000),
    "infinite": (200, {}, b'{"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 1e999}}'),
    "negative": reply(usage={"prompt_tokens": -(10**10), "completion_tokens": -5}),
    "no number": (200, {}, b'{"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": NaN}}'),
    "too many": reply(usage={"prompt_tokens": 10**300, "completion_tokens": 1e308}),
    "true tokens": reply(usage={"prompt_tokens": True, "completion_tokens": [1]}),
    "usage is a list": reply(usage=[1, 2]),
    "long digits": (200, {}, b'{"choices": [{"message": {"content": "yes"}}], "usage": ' + b"9" * 10_000 + b"}"),
    "unfinished thoughts": reply("<think>" * 9000),
    "half a pair": (200, {}, b'{"choices": [{"message": {"content": "yes \\ud800"}}]}'),
    "only half a pair": (200, {}, b'{"choices": [{"message": {"content": "\\udfff"}}]}'),
    "sure beyond measure": reply(
        '{"correct": "no"}',
        logprobs={"content": [{"token": "no", "top_logprobs": [{"token": "no", "logprob": 1e9}]}]},
    ),
    "infinitely sure": (
        200,
        {},
        b'{"choices": [{"message": {"content": "no"}, "logprobs": {"content": [{"token": "no", "top_logprobs": '
        b'[{"token": "no", "logprob": 1e999}, {"token": "yes", "logprob": 1e999}]}]}}]}',
    ),
    "not even a number": (
        200,
        {},
        b'{"choices": [{"message": {"content": "no"}, "logprobs": {"content": [{"token": "no", "top_logprobs": '
        b'[{"token": "no", "logprob": NaN}]}]}}]}',
    ),
    "logprobs of everything": reply(logprobs={"content": [{"token": ["yes"], "top_logprobs": {"a": None}}]}),
    "not text": (200, {}, bytes(range(256))),
    "null": (200, {}, b"null"),
    "a wait without end": (429, {"Retry-After": "nan"}, b""),
    "echoes the key": (400, {}, b"x" * 290 + KEY.encode()),
    "echoes the key as JSON": (403, {}, json.dumps({"header": KEY}).encode()),
    "says the key": reply(f"maybe {KEY}"),
    "key in a redirect": (307, {"Location": f"http://127.0.0.1:9/{KEY}"}, KEY.encode()),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_whatever_the_judge_says_a_verdict_or_a_failure_comes_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    with serving(lambda *_: HOSTILE[name]) as server:
        judge = JudgeGrader(ask(server.url, key_env="A_KEY"))
        grades = judge.grade(ITEMS)
        for grade in grades:
            canonical(grade).encode()
            if isinstance(grade, Failure):
                assert (grade.kind, grade.blame) == ("judge", "infra")
                assert "SECRET" not in grade.message and "sk-" not in grade.message
                assert len(grade.message) < 1000
            else:
                assert 0 <= grade[1] <= 1
        assert 0 <= judge.dollars < 10_000 and math.isfinite(judge.dollars)
        assert judge.usage.prompt_tokens >= 0 and judge.usage.answer_tokens >= 0


def test_what_a_server_does_not_count_is_counted_by_length() -> None:
    with serving(lambda *_: reply(usage={"prompt_tokens": -10_000})) as server:
        judge = JudgeGrader(ask(server.url))
        judge.grade(ITEMS)
    assert judge.usage.prompt_tokens > 8 * 200 and judge.usage.answer_tokens > 8 * 10
    assert judge.dollars > 0


RATINGS = [
    '{"length": 1e999, "diversity": 1, "quality": 1, "correctness": 1}',
    '{"length": NaN, "diversity": 1, "quality": 1, "correctness": 1}',
    '{"length": -1e999, "diversity": 1, "quality": 1, "correctness": 1}',
    "{" * 60_000 + "}",
    '{"length":' * 60_000 + "}",
    '{"length": ' + "9" * 5000 + "}",
    '{"length": [1], "diversity": {}, "quality": null, "correctness": "5"}',
    "\ud800",
]


@pytest.mark.parametrize("text", RATINGS)
def test_ratings_that_are_none_are_failures(text: str) -> None:
    edit = Edit("e", "t", 0, "v", 0, (), (), (), "text", "stop", "text")
    with serving(lambda *_: reply(text)) as server:
        (verdict,) = rate({"t": Description("A", "B")}, [edit], ask(server.url))
    assert verdict.failure and verdict.failure.kind == "judge" and set(AXES)
    canonical(verdict).encode()


def mutated(draw: random.Random) -> JudgeReply:
    """A sound reply with some of its bytes changed, cut, doubled or replaced."""
    sound = says('{"correct": "yes"}', logprobs={"content": [{"token": "yes", "top_logprobs": [], "logprob": -0.1}]})
    assert sound
    data = bytearray(sound[2])
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[at : at + draw.randrange(30)]
            case 2:
                data[at:at] = data[draw.randrange(len(data) + 1) :][: draw.randrange(40)]
            case 3:
                data[at:at] = draw.choice(
                    [b"1e999", b"-1", b"NaN", b"[" * 5000, b"\\ud800", b"null", b'"', b"}", b"<think>"]
                )
            case _:
                data[at:] = b""
        if not data:
            break
    return 200, {}, bytes(data)


def attack(seed: str, replies: int) -> None:
    draw = drawing(seed)
    with serving(lambda *_: mutated(draw)) as server:
        judge = JudgeGrader(ask(server.url, parallel=1))
        grades = [g for n in range(replies) for g in judge.grade([(f"Question {n}?", ("gold",), "gold")])]
        dollars = judge.dollars
    for grade in grades:
        canonical(grade).encode()
        assert isinstance(grade, Failure) or 0 <= grade[1] <= 1
    assert math.isfinite(dollars) and dollars >= 0


def test_mutated_replies_give_verdicts_or_failures() -> None:
    attack("judge", AMOUNTS["judge"].quick)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["judge"].times))
def test_many_mutated_replies_give_verdicts_or_failures(seed: int) -> None:
    attack(f"judge {seed}", AMOUNTS["judge"].long)


# The key and the address


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"])
def test_the_line_end_of_a_mounted_secret_is_no_part_of_the_key(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", f"sk-123{end}")
    with serving(lambda *_: reply()) as server:
        (grade,) = JudgeGrader(ask(server.url, key_env="A_KEY")).grade(ITEMS[:1])
        assert grade == (True, 1.0)
        assert server.headers[0]["Authorization"] == "Bearer sk-123"


@pytest.mark.parametrize("key", ["sk-1\n23", "sk-é", "sk-\x07", "sk-\u200b1"])
def test_a_key_that_no_header_takes_is_refused_without_being_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(ConfigError) as caught:
        ask("http://127.0.0.1:9/v1", key_env="A_KEY")
    assert "sk-" not in str(caught.value) and "A_KEY" in str(caught.value)


def test_what_http_says_of_headers_is_not_shown() -> None:
    with serving(lambda *_: reply()) as server:  # a header is looked at once there is somebody to send it to
        endpoint = ask(server.url)
        endpoint._client.headers["Authorization"] = "Bearer sk-SECRET\n"  # as if the check above were not there
        failure = JudgeGrader(endpoint).grade(ITEMS[:1])[0]
    assert isinstance(failure, Failure) and "SECRET" not in failure.message
    assert "did not take the request" in failure.message


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://", "not a url", "ftp://host/v1", "http://a b/v1", "http://host:99999999/v1", "\x00", "//h"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        ask(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        (
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01",
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01",
        ),
        (
            "https://n.openai.azure.com/openai/deployments/d?api-version=2024-06-01",
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01",
        ),
    ],
)
def test_where_a_judge_is_asked(url: str, target: str) -> None:
    assert ask(url)._target == httpx.URL(target)

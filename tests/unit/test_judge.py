"""A judge behind a real HTTP server that misbehaves: no verdict is lost, and none is invented."""

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeReply, says, serving, slowly, truth

from seal_ray import grading
from seal_ray.config import GradingSection
from seal_ray.errors import AlreadyThere, ConfigError, StorageError
from seal_ray.grading import judge_endpoint
from seal_ray.grading.cache import StoredCache
from seal_ray.grading.endpoint import Endpoint
from seal_ray.grading.judge import ASKED, CascadeGrader, JudgeGrader
from seal_ray.grading.rubric import AXES, rate
from seal_ray.loops.teachers import teacher_endpoint
from seal_ray.records import Description, Edit, Failure
from seal_ray.storage.store import Store


def items(count: int) -> list[tuple[str, tuple[str, ...], str]]:
    """Every second answer is right."""
    return [(f"Question {n}?", (f"gold {n}",), f"gold {n}" if n % 2 == 0 else f"other {n}") for n in range(count)]


def endpoint(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, "judge-1", **{"backoff": 0.001, "timeout": 60.0, "parallel": 8, **options})


def kept_in(folder: Path) -> StoredCache:
    store = Store(str(folder))
    return StoredCache(store.read, store.create, store.write)


def expected(count: int) -> list[tuple[bool, float]]:
    return [(n % 2 == 0, float(n % 2 == 0)) for n in range(count)]


def number(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"].split("Question: Question ")[1].split("?")[0])


def test_every_answer_gets_the_verdict_that_the_judge_gave() -> None:
    with serving(lambda body, _: truth(body)) as server:
        judge = JudgeGrader(endpoint(server.url, price_in=2.0, price_out=8.0))
        assert judge.grade(items(40)) == expected(40)
        assert len(server.bodies) == 40
    usage = judge.usage
    assert (usage.calls, usage.failed, usage.prompt_tokens, usage.answer_tokens) == (40, 0, 4000, 200)
    assert usage.dollars == pytest.approx((4000 * 2 + 200 * 8) / 1e6)
    assert judge.dollars == usage.dollars


def test_requests_run_side_by_side_up_to_the_limit() -> None:
    with serving(lambda body, _: slowly(body)) as server:
        JudgeGrader(endpoint(server.url, parallel=4)).grade(items(20))
        assert 1 < server.most_at_once <= 4


def test_trouble_that_passes_loses_no_verdict() -> None:
    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        trouble: list[JudgeReply] = [
            (500, {}, b"oops"),
            (503, {}, b""),
            (429, {"Retry-After": "0"}, b'{"error": "slow down"}'),
            (200, {}, b"<html>gateway</html>"),
            (200, {}, b"[1"),
            (200, {}, b'{"choices": []}'),
            (200, {}, b'{"choices": [{"message": "?"}]}'),
            says(None),
            says(""),
            says("It depends."),
            says('{"correct": "maybe"}'),
            (200, {}, b"x" * (2 << 20)),
            (200, {"Content-Length": "10000", "Connection": "close"}, b"{"),
            None,
        ]
        kind = number(body) % (len(trouble) + 1)
        if attempt <= 2 and kind < len(trouble):
            return trouble[kind]
        return truth(body)

    with serving(behave) as server:
        judge = JudgeGrader(endpoint(server.url, retries=2))
        assert judge.grade(items(45)) == expected(45)
        assert judge.usage.failed == 0
        assert judge.usage.calls == 3 * 45 - 2 * 3


def test_trouble_that_stays_gives_failures_and_no_verdict() -> None:
    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        return [(500, {}, b"oops"), says("who knows"), truth(body)][number(body) % 3]

    with serving(behave) as server:
        judge = JudgeGrader(endpoint(server.url, retries=2))
        grades = judge.grade(items(12))
    for n, grade in enumerate(grades):
        if n % 3 == 2:
            assert grade == (n % 2 == 0, float(n % 2 == 0))
        else:
            assert isinstance(grade, Failure)
            assert (grade.kind, grade.blame) == ("judge", "infra")
            assert ("HTTP 500: oops" if n % 3 == 0 else "who knows") in grade.message
    assert judge.usage.failed == 8
    assert max(server.tries.values()) == 3


def test_a_server_that_hangs_is_not_waited_for() -> None:
    done, replied = threading.Event(), []

    def hang(body: dict[str, Any], attempt: int) -> JudgeReply:
        done.wait()
        replied.append(attempt)
        return truth(body)

    with serving(hang) as server:
        (grade,) = JudgeGrader(endpoint(server.url, retries=1, timeout=0.2)).grade(items(1))
        assert not replied
        done.set()
    assert isinstance(grade, Failure)
    assert "no reply within 0.2 s" in grade.message


def test_a_judge_that_is_out_of_reach_is_given_up_soon() -> None:
    with serving(lambda body, _: truth(body)) as server:
        url = server.url
    judge = JudgeGrader(endpoint(url, retries=3, parallel=4))
    grades = judge.grade(items(200))
    assert all(isinstance(g, Failure) and g.blame == "infra" for g in grades)
    assert judge.usage.calls < 80, "after some in a row failed for good, the rest is not even sent"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_holds_for_everyone_stops_the_rest(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-secret-123")
    with serving(lambda *_: (status, {}, b'{"error": "bad key sk-secret-123"}')) as server:
        grades = JudgeGrader(endpoint(server.url, key_env="A_KEY", parallel=2)).grade(items(50))
        assert len(server.bodies) <= 4
        assert server.headers[0]["Authorization"] == "Bearer sk-secret-123"
    for grade in grades:
        assert isinstance(grade, Failure)
        assert f"HTTP {status}" in grade.message
        assert "secret" not in grade.message


def test_a_reply_without_end_is_not_read_to_the_end() -> None:
    padded = says('{"correct": "yes"}')
    assert padded
    with serving(lambda *_: (200, {}, padded[2] + b" " * (2 << 20))) as server:
        (grade,) = JudgeGrader(endpoint(server.url, retries=0)).grade(items(1))
    assert isinstance(grade, Failure)
    assert "more than 1048576 bytes" in grade.message


def test_the_server_says_how_long_to_wait() -> None:
    times: list[float] = []

    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.3"}, b"") if attempt == 1 else truth(body)

    with serving(behave) as server:
        assert JudgeGrader(endpoint(server.url)).grade(items(1)) == expected(1)
    assert times[1] - times[0] >= 0.3


def test_a_server_that_knows_fewer_options_is_asked_without_them() -> None:
    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        if "logprobs" in body:
            return 400, {}, b'{"error": "logprobs is not supported"}'
        if "response_format" in body:
            return 422, {}, b"extra fields"
        return truth(body)

    with serving(behave) as server:
        judge = JudgeGrader(endpoint(server.url, retries=0, parallel=1))
        assert judge.grade(items(6)) == expected(6)
        assert len(server.bodies) == 8, "what it does not know is learned once"
        assert "top_logprobs" not in server.bodies[-1]


def test_what_a_judge_is_told_is_in_words_and_names_no_class() -> None:
    assert "Reply with" in ASKED and "JudgeReply" not in ASKED


def test_a_request_that_a_server_refuses_takes_no_option_from_the_others() -> None:
    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        return (400, {}, b'{"error": "content filter"}') if number(body) == 0 else truth(body)

    with serving(behave) as server:
        grades = JudgeGrader(endpoint(server.url, retries=0, parallel=1)).grade(items(3))
        assert all({"temperature", "max_tokens", "response_format", "logprobs"} <= set(b) for b in server.bodies[-2:])
    assert isinstance(grades[0], Failure) and grades[1:] == expected(3)[1:]


def test_a_request_that_is_wrong_in_itself_fails_alone() -> None:
    with serving(lambda body, _: (413, {}, b"too large") if number(body) == 0 else truth(body)) as server:
        grades = JudgeGrader(endpoint(server.url)).grade(items(3))
    assert isinstance(grades[0], Failure)
    assert grades[1:] == expected(3)[1:]


def test_the_score_is_the_share_of_yes_among_the_first_verdict_tokens() -> None:
    def top(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
        return [{"token": t, "logprob": math.log(p)} for t, p in pairs]

    cases = [
        ('{"correct": "yes"}', top(("yes", 0.6), ("Yes", 0.2), ("no", 0.2)), (True, 0.8)),
        ("no.", top(("no", 0.9), ("yes", 0.1)), (False, 0.1)),
        ("yes", [], (True, 1.0)),
        ("yes", top(("no", 0.9), ("yes", 0.1)), (True, 1.0)),  # contradicts what it said: only the word counts
        ("yes", [{"token": "yes", "logprob": "?"}], (True, 1.0)),
    ]

    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        text, alternatives, _ = cases[number(body)]
        spoken = "yes" if "yes" in text else "no"
        content = [{"token": "{", "logprob": 0.0, "top_logprobs": []}]
        content.append({"token": spoken, "logprob": 0.0, "top_logprobs": alternatives})
        return says(text, logprobs={"content": content})

    with serving(behave) as server:
        grades = JudgeGrader(endpoint(server.url)).grade(items(len(cases)))
    for grade, (_, _, wanted) in zip(grades, cases, strict=True):
        assert not isinstance(grade, Failure)
        assert grade == (wanted[0], pytest.approx(wanted[1]))


def test_a_second_run_costs_no_call(tmp_path: Path) -> None:
    with serving(lambda body, _: truth(body)) as server:
        JudgeGrader(endpoint(server.url), kept_in(tmp_path)).grade(items(10))
        again = JudgeGrader(endpoint(server.url), kept_in(tmp_path))
        assert again.grade([*items(10), *items(10)]) == expected(10) * 2
        assert (again.usage.calls, again.usage.cached) == (0, 10)
        assert len(server.bodies) == 10
        other = JudgeGrader(Endpoint(server.url, "judge-2"), kept_in(tmp_path))
        other.grade(items(1))
        assert other.usage.calls == 1, "another model's verdict is another verdict"


def test_equal_answers_are_asked_about_once() -> None:
    with serving(lambda body, _: truth(body)) as server:
        assert JudgeGrader(endpoint(server.url)).grade(items(2) * 5) == expected(2) * 5
        assert len(server.bodies) == 2


def test_failures_are_not_kept_and_damaged_verdicts_are_bought_again(tmp_path: Path) -> None:
    broken = True
    with serving(lambda body, _: (500, {}, b"") if broken else truth(body)) as server:
        grades = JudgeGrader(endpoint(server.url, retries=0), kept_in(tmp_path)).grade(items(4))
        assert all(isinstance(g, Failure) for g in grades)
        assert not list(tmp_path.rglob("*.json"))
        broken = False
        assert JudgeGrader(endpoint(server.url), kept_in(tmp_path)).grade(items(4)) == expected(4)
        kept = sorted(tmp_path.rglob("*.json"))
        assert len(kept) == 4
        for path, junk in zip(
            kept, (b"", b"{", b'{"correct": "yes", "score": 1}', b'{"correct": true, "score": 7}'), strict=True
        ):
            path.write_bytes(junk)
        judge = JudgeGrader(endpoint(server.url), kept_in(tmp_path))
        assert judge.grade(items(4)) == expected(4)
        assert judge.usage.calls == 4


def test_a_cache_in_object_storage_may_be_shared_and_may_be_out_of_reach() -> None:
    kept: dict[str, bytes] = {}

    def create(path: str, data: bytes) -> None:
        if path in kept:
            raise AlreadyThere(path)
        kept[path] = data

    def read(path: str) -> bytes:
        raise StorageError("no answer")

    with serving(lambda body, _: truth(body)) as server:
        for _ in range(2):
            judge = JudgeGrader(endpoint(server.url), StoredCache(read, create, create))
            assert judge.grade(items(3)) == expected(3)
        assert len(kept) == 3


def test_the_cascade_asks_only_where_words_do_not_decide() -> None:
    sure = [("Who?", ("Ada Lovelace",), "Ada Lovelace"), ("When was it?", ("1981",), "Bananas are yellow")]
    unsure = [("Why did it stop?", ("an eel stuck in the pipe",), "something was stuck in it")]
    with serving(lambda body, _: says("yes")) as server:
        cascade = CascadeGrader(JudgeGrader(endpoint(server.url)), 0.05, 0.95)
        grades = cascade.grade([*sure, *unsure])
        assert [isinstance(g, Failure) or g[0] for g in grades] == [True, False, True]
        assert len(server.bodies) == 1
    lost = CascadeGrader(JudgeGrader(endpoint(server.url, retries=0)), 0.05, 0.95).grade([*sure, *unsure])
    assert [isinstance(g, Failure) for g in lost] == [False, False, True]


def test_a_missing_key_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    section = GradingSection(grader="judge", judge_url="http://localhost:1/v1", judge_model="m")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        grading.build(section)


def test_what_goes_wrong_at_an_endpoint_is_told_as_it_is_of_a_judge_and_of_a_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEAL_RAY_TEACHER_KEY", "two\nlines")
    with pytest.raises(ConfigError, match=r"^the key in SEAL_RAY_TEACHER_KEY has characters"):
        teacher_endpoint("http://teacher", "t", GradingSection())
    monkeypatch.delenv("SEAL_RAY_TEACHER_KEY")
    for address in ("ftp://teacher", "http://teacher:x"):
        with pytest.raises(ConfigError, match="an endpoint's address is not a URL"):
            teacher_endpoint(address, "t", GradingSection())
    with serving(lambda *_: (403, {}, b"{}")) as server:
        teacher = teacher_endpoint(server.url, "t", GradingSection())
        (lost,) = teacher.ask([{"messages": [{"content": "Write."}]}], lambda reply: reply.text)
        teacher.close()
    assert isinstance(lost, Failure) and "t at http" in lost.message and "gave no usable reply" in lost.message


def test_the_configured_grader_is_built(tmp_path: Path) -> None:
    assert grading.build(GradingSection()).name == "lexical"
    assert grading.build(GradingSection(grader="exact")).name == "exact"
    with serving(lambda body, _: truth(body)) as server:
        for grader in ("judge", "cascade"):
            section = GradingSection(
                grader=grader, judge_url=server.url, judge_model="m", judge_key_env="", cascade_low=0, cascade_high=1
            )
            built = grading.build(section, str(tmp_path / "run"))
            assert built.name == grader
            assert built.grade(items(2)) == expected(2)
        assert len(server.bodies) == 2, "the cascade finds the judge's verdicts in the run's cache"


def test_runs_that_name_one_cache_share_what_a_judge_said_and_ask_so_many_at_once(tmp_path: Path) -> None:
    """`grading.judge_cache` and `grading.judge_parallel`."""
    with serving(lambda body, _: slowly(body)) as server:
        section = GradingSection(
            grader="judge", judge_url=server.url, judge_model="m", judge_key_env="", judge_parallel=2,
            judge_cache=str(tmp_path / "shared"),
        )  # fmt: skip
        for name in ("one", "other"):
            assert grading.build(section, str(tmp_path / name)).grade(items(6)) == expected(6)
        assert len(server.bodies) == 6 and server.most_at_once <= 2
    assert len(list((tmp_path / "shared").rglob("*.json"))) == 6
    assert not (tmp_path / "one").exists() and not (tmp_path / "other").exists()


def test_judge_and_teacher_are_as_patient_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "open sesame")
    section = GradingSection.model_validate(
        {"judge_url": "http://judge", "judge_model": "j", "judge_key_env": "JUDGE_KEY", "judge_parallel": 3,
         "judge_timeout": 7, "judge_retries": 5, "judge_price_in": 0.25, "judge_price_out": 0.5}
    )  # fmt: skip
    judge, teacher = judge_endpoint(section), teacher_endpoint("http://teacher", "t", section)
    assert (judge.url, judge.model, judge.key_env) == ("http://judge", "j", "JUDGE_KEY")
    assert (judge.price_in, judge.price_out) == (0.25, 0.5)
    for endpoint in (judge, teacher):
        assert (endpoint.parallel, endpoint.timeout, endpoint.retries) == (3, 7, 5)
        assert endpoint._client.timeout.read == 7
        endpoint.close()


def test_a_question_without_gold_answers_is_never_sent() -> None:
    with serving(lambda body, _: truth(body)) as server:
        (grade,) = JudgeGrader(endpoint(server.url)).grade([("Who?", (), "me")])
        assert isinstance(grade, Failure)
        assert grade.kind == "no_gold"
        assert not server.bodies


def edit(name: str, text: str, failure: Failure | None = None) -> Edit:
    return Edit(name, "t", 0, "v", 0, (), (), (), text, "stop", text, failure)


def test_the_rubric_gives_each_edit_four_scores_or_a_failure() -> None:
    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        asked = body["messages"][1]["content"]
        if "bad" in asked:
            return says('{"length": 9, "diversity": 1, "quality": 1, "correctness": 1}')
        return says(json.dumps({"length": 5, "diversity": 1, "quality": 3, "correctness": 4}))

    described = {"t": Description("T", "C")}
    edits = [edit("e1", "good"), edit("e2", "bad"), edit("e3", "", Failure("no_text", "empty"))]
    with serving(behave) as server:
        verdicts = rate(described, edits, endpoint(server.url, retries=1))
        assert server.tries.total() == 3
    assert {(v.candidate, v.question): v.score for v in verdicts if not v.failure} == {
        ("e1", axis): score for axis, score in zip(AXES, (1.0, 0.0, 0.5, 0.75), strict=True)
    }
    (lost,) = [v for v in verdicts if v.failure]
    assert (lost.candidate, lost.score, lost.correct) == ("e2", None, None)

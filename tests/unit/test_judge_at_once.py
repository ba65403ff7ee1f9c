"""One verdict on one answer, however many threads ask for it at once, and whatever the cache has of it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeReply, says, serving, truth
from test_judge import endpoint, expected, items, kept_in

from seal_ray.grading.judge import ItemGrade, JudgeGrader
from seal_ray.records import Failure

THREADS = 8


def at_once(judge: JudgeGrader, count: int) -> list[list[ItemGrade]]:
    """What each of the threads is told of the same answers, which they come to in different orders."""
    together = threading.Barrier(THREADS)

    def one(turn: int) -> list[ItemGrade]:
        order = [(n + turn) % count for n in range(count)]
        together.wait()
        graded = judge.grade([items(count)[n] for n in order])
        return [graded[order.index(n)] for n in range(count)]

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(one, range(THREADS)))


def fickle() -> Callable[[dict[str, Any], int], JudgeReply]:
    """A judge that says something else each time it is asked, and takes its time."""

    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        time.sleep(0.2)
        return says("yes" if attempt % 2 else "no")

    return behave


def test_threads_that_ask_for_the_same_verdict_buy_it_once(tmp_path: Path) -> None:
    with serving(fickle()) as server:
        judge = JudgeGrader(endpoint(server.url, parallel=32), kept_in(tmp_path))
        told = at_once(judge, 10)
        assert len(server.bodies) == 10, "nothing is paid for twice"
    assert all(own == [(True, 1.0)] * 10 for own in told)
    assert not judge._asked


def test_a_failure_is_told_to_all_who_wait_and_asked_again_afterwards(tmp_path: Path) -> None:
    broken = True

    def behave(body: dict[str, Any], attempt: int) -> JudgeReply:
        time.sleep(0.2)
        return (500, {}, b"") if broken else truth(body)

    with serving(behave) as server:
        judge = JudgeGrader(endpoint(server.url, retries=0, parallel=32), kept_in(tmp_path))
        assert all(isinstance(grade, Failure) for own in at_once(judge, 2) for grade in own)
        broken = False
        assert at_once(judge, 2) == [expected(2)] * THREADS


def test_an_error_reaches_those_who_wait_and_holds_nobody_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda body, _: truth(body)) as server:
        judge = JudgeGrader(endpoint(server.url), kept_in(tmp_path))

        def fail(*_: Any) -> None:
            time.sleep(0.2)
            raise RuntimeError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(judge.endpoint, "ask", fail)
            with pytest.raises(RuntimeError, match="a defect"):
                at_once(judge, 2)
        assert at_once(judge, 2) == [expected(2)] * THREADS


def test_a_damaged_verdict_is_replaced_by_the_one_that_was_bought(tmp_path: Path) -> None:
    with serving(lambda body, _: truth(body)) as server:
        JudgeGrader(endpoint(server.url), kept_in(tmp_path)).grade(items(3))
        kept = sorted(tmp_path.rglob("*.json"))
        for path, junk in zip(kept, (b"", b"{", b'{"correct": "yes", "score": 1}'), strict=True):
            path.write_bytes(junk)
        for calls in (3, 0):
            judge = JudgeGrader(endpoint(server.url), kept_in(tmp_path))
            assert judge.grade(items(3)) == expected(3)
            assert judge.usage.calls == calls

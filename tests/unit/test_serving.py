"""What may be served and asked, before anything starts."""

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest
from adapters import write_adapter

from seal_ray import models
from seal_ray.commands import ask, serve
from seal_ray.commands.served import Served, fetched, find, nearest_topic
from seal_ray.config import Config, ModelSection, StorageSection
from seal_ray.errors import ConfigError, DataError, InfraError, LedgerError
from seal_ray.loops.history import Run
from seal_ray.records import ADAPTER
from seal_ray.sampling.guard import is_loopback
from seal_ray.storage.ledger import RoundLedger

SECTION = ModelSection(name="builtin:tiny", dtype="float32")
DOMAIN = {"name": "knowledge", "data": "builtin:passages"}
RECORDED = Path(__file__).parents[1] / "recorded/v0.1.0/run"


def test_a_server_that_others_can_reach_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve.KEY, raising=False)
    for host in ("0.0.0.0", "::", "10.1.2.3", "somewhere"):
        with pytest.raises(ConfigError, match="SEAL_RAY_SERVE_KEY"):
            serve.check(serve.ServeSettings(host=host))
    assert all(is_loopback(h) for h in ("127.0.0.1", "localhost", "::1", "127.8.8.8"))


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            serve.check(serve.ServeSettings(port=taken.getsockname()[1]))


def test_the_token_is_in_the_environment_and_in_no_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(serve.KEY, "secret")
    served = Served(models.fetch(SECTION), SECTION, {"a": write_adapter(tmp_path / "a", 1, rank=12)})
    settings = serve.ServeSettings()
    command = serve._command(served, settings)
    env = serve._environment(settings, "secret")
    assert env["VLLM_API_KEY"] == "secret" and serve.KEY not in env and "secret" not in command
    assert command[command.index("--max-lora-rank") + 1] == "16"
    assert "lm_head" not in command and "q_proj" in command


def test_a_server_on_a_gpu_refuses_a_type_that_its_adapters_are_not_computed_in() -> None:
    base = models.fetch(SECTION)
    with pytest.raises(ConfigError, match=r"model\.dtype: .* not in float32"):
        serve._command(Served(base, SECTION, {}), serve.ServeSettings(device="gpu"))
    command = serve._command(
        Served(base, SECTION.model_copy(update={"dtype": "bfloat16"}), {}), serve.ServeSettings(device="gpu")
    )
    assert command[command.index("--dtype") + 1] == "bfloat16"


def test_a_server_needs_no_cuda_compiler_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    vllm = find_spec("vllm")
    assert vllm is not None and vllm.origin is not None
    assert f'os.environ["{name}"]' in Path(vllm.origin).with_name("envs.py").read_text(), "vLLM reads another name"
    monkeypatch.delenv(name, raising=False)
    assert serve._environment(serve.ServeSettings(device="gpu"), "")[name] == "0"
    monkeypatch.setenv(name, "1")
    assert serve._environment(serve.ServeSettings(device="gpu"), "")[name] == "1"


class OneModel(BaseHTTPRequestHandler):
    """Takes adapters as vLLM does, and answers by the base whatever it is asked."""

    names: ClassVar[list[str]]
    hangs_up: ClassVar[bool]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/load_lora_adapter":
            self.names.append(asked["lora_name"])
        elif self.path == "/v1/unload_lora_adapter":
            self.names.remove(asked["lora_name"])
        elif self.hangs_up:
            return
        scores = [None, *({str(token): {"logprob": -1.0}} for token in asked.get("prompt", ())[1:])]
        data = json.dumps({"choices": [{"prompt_logprobs": scores}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("hangs_up", [False, True])
def test_an_adapter_that_does_not_stand_its_probe_is_not_left_to_be_asked(hangs_up: bool, tmp_path: Path) -> None:
    OneModel.names, OneModel.hangs_up = [], hangs_up
    with ThreadingHTTPServer(("127.0.0.1", 0), OneModel) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        settings = serve.ServeSettings(port=http.server_address[1])
        server = serve.Server(None, tmp_path / "log", settings, "", [1, 2, 3])  # type: ignore[arg-type]
        server._of_base = [-1.0, -1.0]
        with pytest.raises(httpx.HTTPError if hangs_up else InfraError):
            server.load("version-1", write_adapter(tmp_path / "a", 1))
        assert not OneModel.names and not server.loaded
        if not hangs_up:
            server.load("version-2", write_adapter(tmp_path / "b", 1, strength=0.0))  # it is nothing, and says so
            assert OneModel.names == ["version-2"] == list(server.loaded)
        http.shutdown()


def test_a_server_of_a_run_has_room_for_the_adapters_that_are_to_come(tmp_path: Path) -> None:
    ranks = {}
    for fresh in (False, True):
        config = Config.model_validate(
            {"run": {"uri": str(tmp_path), "rounds": 3}, "policy": {"rank": 16, "fresh": fresh}, "domain": DOMAIN}
        )
        served = Served(models.fetch(SECTION), SECTION, {}, run=SimpleNamespace(config=config))  # type: ignore[arg-type]
        command = serve._command(served, serve.ServeSettings())
        ranks[fresh] = command[command.index("--max-lora-rank") + 1]
    assert ranks == {False: "16", True: "64"}, "with policy.fresh adapters of rank 48 come"


def test_a_version_of_a_run_is_found_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    numbers = [v.number for v in Run(str(RECORDED)).versions()]
    newest = find(f"{RECORDED}#{numbers[-1]}", StorageSection(), str(tmp_path))
    assert list(newest.adapters) == [f"version-{numbers[-1]}"] and newest.rank > 0 and newest.run is None
    assert find(str(RECORDED), StorageSection(), str(tmp_path)).run, "newer versions are looked for"
    assert find(f"{RECORDED}#0", StorageSection(), str(tmp_path)).adapters == {}
    assert newest.topics
    with pytest.raises(ConfigError, match="has no version 77; there are: 0"):
        find(f"{RECORDED}#77", StorageSection(), str(tmp_path))
    with pytest.raises(ConfigError, match="there is no run"):
        find(str(tmp_path / "nowhere"), StorageSection(), str(tmp_path))


def test_a_run_is_served_without_reading_what_it_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    titles = {t.data["title"] for r in Run(str(RECORDED)).rounds() for t in r.tasks}
    read: list[str] = []
    monkeypatch.setattr(RoundLedger, "records", lambda part, kind: read.append(kind) or {})
    served = find(str(RECORDED), StorageSection(), str(tmp_path))
    assert set(served.topics) == titles and served.adapters and not read


def test_a_version_that_is_damaged_is_refused_each_time_it_is_asked_for(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(RECORDED, copy)
    run = Run(str(copy))
    version = next(v for v in run.versions() if v.path)
    assert Path(fetched(run, version, str(tmp_path / "whole")), ADAPTER).is_file()
    (weights,) = (copy / str(version.path)).rglob(ADAPTER)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for _ in range(2):  # a server looks again every few seconds
        with pytest.raises(LedgerError, match="damaged"):
            fetched(run, version, str(tmp_path / "scratch"))


def test_a_folder_says_which_model_it_belongs_to(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    with pytest.raises(ConfigError, match="--model"):
        find(folder, StorageSection(), str(tmp_path))
    assert list(find(folder, StorageSection(), str(tmp_path), "builtin:tiny").adapters) == ["mine"]
    note = tmp_path / "mine" / "seal-ray.json"
    note.write_text(json.dumps({"model": {"name": "builtin:tiny"}, "topics": ["A", 3]}))
    assert find(folder, StorageSection(), str(tmp_path)).topics == ("A",)
    note.write_text("{")
    with pytest.raises(DataError, match="can't be read"):
        find(folder, StorageSection(), str(tmp_path))


@pytest.mark.parametrize("name", ["base", "beginning"])
def test_a_folder_is_not_asked_by_the_name_of_what_it_was_made_from(name: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / name, 1)
    found = find(folder, StorageSection(), str(tmp_path), "builtin:tiny")
    assert found.adapters == {f"adapter-{name}": folder}


def test_a_question_is_asked_under_the_topic_that_it_names() -> None:
    topics = ("Odalys Wren: Youth", "Odalys Wren: Maps", "The Marrow Engine", "Tavik Island")
    assert nearest_topic("Who built the Marrow engine?", topics) == "The Marrow Engine"
    assert nearest_topic("Which maps did Odalys Wren draw?", topics) == "Odalys Wren: Maps"
    assert nearest_topic("What is the capital of France?", topics) == ""
    assert nearest_topic("Who?", ()) == ""


def test_answers_stand_side_by_side() -> None:
    said = ask.SideBySide("Who?", "Odalys Wren", {"base": "", "version-2": "Odalys"})
    assert ask.show(said).splitlines() == [
        "Who?   (asked under the topic Odalys Wren)",
        "  base       (nothing)",
        "  version-2  Odalys",
    ]

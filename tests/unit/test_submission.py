"""Handing a run to a cluster: what is sent, what is left out, and what is refused before anything is sent.

The job server is played by one that keeps what it was told; a real one is in the end-to-end tests.
"""

import json
import shlex
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.runtime_env.packaging import create_package

from seal_ray import config_file
from seal_ray.commands import submit as submitting
from seal_ray.errors import ConfigError, InfraError

TEXT = "run: {uri: 's3://bucket/run'}\nstorage: {stop_within: 20}\nplacement: {address: local}\n"
# as Ray's job server tells of them
NODES = [
    {"node_id": "a", "state": "ALIVE", "is_head_node": True, "resources_total": {"memory": 1e9}},
    {"node_id": "b", "state": "ALIVE", "is_head_node": False, "resources_total": {"CPU": 4.0, "memory": 1e9}},
    {"node_id": "c", "state": "DEAD", "is_head_node": False, "resources_total": {"CPU": 64.0, "GPU": 8.0}},
]
Start = Callable[..., tuple[str, list[dict[str, Any]]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a job server that says it runs a version of Ray; its address, and the jobs that it was given."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    servers: list[ThreadingHTTPServer] = []

    def start(version: str, refuses: str = "", hangs_up: bool = False) -> tuple[str, list[dict[str, Any]]]:
        jobs: list[dict[str, Any]] = []

        class Server(BaseHTTPRequestHandler):
            def answer(self, value: dict[str, Any]) -> None:
                body = refuses.encode() if refuses and self.command == "POST" else json.dumps(value).encode()
                self.send_response(500 if refuses and self.command == "POST" else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path.startswith("/api/v0/nodes"):
                    return None if hangs_up else self.answer({"result": True, "data": {"result": {"result": NODES}}})
                self.answer({"version": "4", "ray_version": version, "ray_commit": "x", "session_name": "s"})

            def do_POST(self) -> None:
                jobs.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({"job_id": "job-1", "submission_id": "job-1"})

            def log_message(self, format: str, *args: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Server))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", jobs

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def hand_over(folder: Path, address: str, overrides: list[str] | None = None, **how: Any) -> dict[str, str]:
    path = folder / "my run.yaml"
    path.write_text(TEXT)
    config = config_file.load(path, overrides or ())
    return submitting.submit(config, path, overrides or [], address=address, working_dir=str(folder), **how)


def test_a_job_runs_the_configuration_on_the_cluster_that_it_is_given_to(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__)
    said = hand_over(tmp_path, address, ["inner.rank=8"])
    (job,) = jobs
    words = shlex.split(job["entrypoint"])
    assert words[:5] == ["seal-ray", "run", "my run.yaml", "--set", "inner.rank=8"]
    assert words[5:] == ["--set", "placement.address=auto"]  # and not on a Ray of its own on the head
    env = job["runtime_env"]
    assert env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "23"  # longer than the run wants to wind up
    assert set(submitting.LEFT_OUT) <= set(env["excludes"])
    assert job["metadata"] == {"seal_ray_run": "s3://bucket/run"}
    assert said["job"] == "job-1" and address in said["follow"] and address in said["stop"]
    assert said["status"] == "seal-ray status s3://bucket/run"


def test_what_the_cluster_lacks_as_it_is_is_said_before_anything_waits_for_it(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__)
    assert "room" not in hand_over(tmp_path, address)
    said = hand_over(tmp_path, address, ["placement.device=gpu", "placement.deadline=300"])
    assert "1 sampler of 1 GPU" in said["room"] and "1 node with no GPU and 4 CPUs" in said["room"]
    assert "waits 300 s" in said["room"] and len(jobs) == 2  # an autoscaler may bring it


def test_what_a_job_server_refuses_is_told_in_its_last_words(tmp_path: Path, start: Start) -> None:
    trace = 'Traceback (most recent call last):\n  File "job_head.py"\nValueError: Package size (600MiB) is too much\n'
    address, _ = start(ray.__version__, refuses=trace)
    with pytest.raises(InfraError, match=r"did not take the job \(ValueError: Package size") as caught:
        hand_over(tmp_path, address)
    assert ".rayignore" in caught.value.hint


def test_a_job_that_was_taken_is_told_of_whatever_the_server_says_of_its_nodes(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__, hangs_up=True)
    said = hand_over(tmp_path, address)
    assert said["job"] == "job-1" and "room" not in said and len(jobs) == 1


def sent(folder: Path, excludes: list[str]) -> list[str]:
    target = folder.parent / "sent.zip"
    target.unlink(missing_ok=True)
    create_package(str(folder), target, include_gitignore=True, excludes=excludes)
    return sorted(n for n in zipfile.ZipFile(target).namelist() if not n.endswith("/"))


def test_what_is_sent_holds_neither_runs_nor_environments_nor_secrets(tmp_path: Path, start: Start) -> None:
    kept = ["jobs/my.yaml", "data/passages.json", "data/seal_ray/x.json", "tokenizer.json", "src/keys.py"]
    left = [".venv/bin/python", "runs/one/run.json", ".env", "my-model/model.safetensors", ".git/config", "mlruns/x"]
    left += [".cache/model/config.json", "src/__pycache__/keys.pyc", "seal_ray/cli.py"]
    left += [
        "deploy/.env.production",
        "id_rsa",
        "keys/id_ed25519.pub",
        "tls/server.key",
        "tls/cert.pem",
        ".aws/credentials",
    ]
    left += [".ssh/config", ".kube/config", ".netrc", "gcp/service-account-prod.json", "aws/credentials.csv", "token"]
    left += ["application_default_credentials.json", "gcp_credentials.json", "service_account-1.json", "kaggle.json"]
    left += [".vault-token", ".config/gcloud/access_tokens.db", ".kaggle/x"]
    left += ["kubeconfig.yaml", "infra/terraform.tfstate.backup", ".ray/auth_token", "secrets.yaml"]
    folder = tmp_path / "project"
    for name in kept + left:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    address, jobs = start(ray.__version__)
    hand_over(folder, address)
    assert sent(folder, jobs[0]["runtime_env"]["excludes"]) == sorted([*kept, "my run.yaml"])


def test_a_checkout_runs_the_images_package_unless_its_own_is_asked_for(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__)
    (tmp_path / "seal_ray").mkdir()
    (tmp_path / "seal_ray/__init__.py").touch()
    said = hand_over(tmp_path, address)
    assert "not sent" in said["code"] and "--code" in said["code"]
    said = hand_over(tmp_path, address, with_code=True, driver_cpus=1)
    assert "sent: it runs" in said["code"]
    words = [shlex.split(job["entrypoint"]) for job in jobs]
    # the driver and the workers run the same package, either way
    assert [w[0] for w in words] == ["seal-ray", "python"] and [w[w.index("run") + 1] for w in words] == [
        "my run.yaml"
    ] * 2
    assert ["/seal_ray" in job["runtime_env"]["excludes"] for job in jobs] == [True, False]
    assert [job.get("entrypoint_num_cpus") for job in jobs] == [None, 1]
    (tmp_path / "seal_ray/__init__.py").unlink()
    assert "code" not in hand_over(tmp_path, address)


def test_a_cluster_with_another_version_of_ray_is_refused_and_gets_nothing(tmp_path: Path, start: Start) -> None:
    address, jobs = start("2.9.0")
    with pytest.raises(InfraError, match=rf"runs Ray 2\.9\.0, here is {ray.__version__}.*same version"):
        hand_over(tmp_path, address)
    assert jobs == []


def test_a_folder_of_one_machine_is_refused_unless_it_is_shared(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__)
    for uri in ("runs/here", "file:///runs/here"):
        with pytest.raises(ConfigError, match=r"storage\.shared"):
            hand_over(tmp_path, address, [f"run.uri={uri}"])
    for uri in ("runs/here", "./here", "~/here"):
        with pytest.raises(ConfigError, match=r"would stand in the copy of this folder.*whole path"):
            hand_over(tmp_path, address, [f"run.uri={uri}", "storage.shared=true"])
    assert jobs == []
    hand_over(tmp_path, address, ["run.uri=/runs/here", "storage.shared=true"])
    assert len(jobs) == 1


def test_a_configuration_outside_the_folder_that_is_sent_is_refused(tmp_path: Path, start: Start) -> None:
    address, jobs = start(ray.__version__)
    (tmp_path / "inside").mkdir()
    path = tmp_path / "outside.yaml"
    path.write_text(TEXT)
    config = config_file.load(path)
    with pytest.raises(ConfigError, match=r"outside\.yaml is not under .*--working-dir"):
        submitting.submit(config, path, [], address=address, working_dir=str(tmp_path / "inside"))
    assert jobs == []


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, start: Start) -> None:
    with pytest.raises(InfraError, match=r"no Ray job server answers at http://127\.0\.0\.1:9 .*8265"):
        hand_over(tmp_path, "http://127.0.0.1:9")

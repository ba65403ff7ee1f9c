"""Serving a version: vLLM's own server in a process of its own, checked before it is called ready, kept up to date.

Base and adapters are models of one server, each under its name. A new version of the run is loaded beside the old ones
while the server answers; nothing is restarted.
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from seal_ray import models
from seal_ray.commands.served import BASE, Served, fetched, name_of, step_adapters, steps_of
from seal_ray.errors import ConfigError, InfraError, Interrupted, SealError
from seal_ray.header_keys import key_in
from seal_ray.records import Json
from seal_ray.sampling.adapters import changes_nothing, linear_layers, probe_ids, served_rank, target_modules
from seal_ray.sampling.guard import Guard, is_loopback
from seal_ray.text import first_line

KEY = "SEAL_RAY_SERVE_KEY"  # environment variable with the token that clients send
ADAPTERS = 8  # that are held at once; the one that was asked longest ago makes room on the device
PATIENCE = 600  # seconds for one request: the first one of a model may wait for a lot
TAIL = 15  # lines of the server's log that an error shows
Say = Callable[[str, dict[str, Json]], None]  # what is told, for people and for programs
NO_DIFFERENCE = 1e-6  # nats: what an adapter must move on a probe, unless it is nothing itself


@dataclass(frozen=True)
class ServeSettings:
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "cpu"
    start_within: float = 600  # seconds
    look_every: float = 10  # seconds between looks for a new version
    gpu_memory: float = 0.85
    kv_cache_gb: float = 1.0


def check(settings: ServeSettings) -> None:
    """Whoever can reach the server can use it and load files into it: beyond this machine only with a token."""
    if not is_loopback(settings.host) and not key_in(KEY):
        raise ConfigError(
            f"--host {settings.host} can be reached from elsewhere, and anybody may ask what is served there",
            hint=f"put a token into the environment variable {KEY}, or listen on 127.0.0.1",
        )
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"--host {settings.host} --port {settings.port}: {error.strerror}", hint="choose another port"
            ) from None


def serve(
    served: Served,
    settings: ServeSettings,
    scratch: str,
    *,
    say: Say,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Until `stop` says so, or the server ends."""
    with running(served, settings, stop) as server:
        adapters = step_adapters(served.steps, scratch) if served.steps else served.adapters
        for name, folder in adapters.items():
            server.load(name, folder)
        names = [BASE, *adapters]
        url = f"http://{_address(settings)}/v1"
        only_here = "" if server.guarded else "   (this machine only)"
        say(f"ready: {url}   models: {', '.join(names)}{only_here}", {"ready": url, "models": names})
        looked = time.monotonic()
        while not stop():
            server.check()
            time.sleep(0.2)
            if served.run and time.monotonic() - looked > settings.look_every:
                looked = time.monotonic()
                _load_newer(served, server, scratch, say)
    raise Interrupted("the server was stopped")


def _load_newer(served: Served, server: "Server", scratch: str, say: Say) -> None:
    """The version that is current by now, if it is not there yet. What goes wrong is said, and the server goes on."""
    assert served.run
    try:
        current = served.run.current()
        if not current or not current.path or name_of(current) in server.loaded:
            return
        steps = steps_of(served.run, current)
        keeper = served.run.keeper(current)
        newer = step_adapters(steps, scratch) if steps else {name_of(current): fetched(keeper, current, scratch)}
        for name, folder in newer.items():
            if name not in server.loaded:
                server.load(name, folder)
                say(f"loaded {name}; the others can still be asked by name", {"loaded": name})
    except (SealError, OSError, httpx.HTTPError) as error:
        warning = f"the newest version could not be loaded: {first_line(error)}"
        say(f"warning: {warning}", {"warning": warning})


@contextlib.contextmanager
def running(served: Served, settings: ServeSettings, stop: Callable[[], bool] = lambda: False) -> "Iterator[Server]":
    """A server that answers for the base; it ends, with all its processes, when the block does."""
    check(settings)
    key = key_in(KEY)
    with tempfile.TemporaryDirectory(prefix="seal-ray-serve-") as folder:
        log = Path(folder, "server.log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                _command(served, settings),
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment(settings, key),
                start_new_session=True,  # so that it can be ended with whatever it has started
            )
        server = Server(process, log, settings, key, probe_ids(served.base, 24))
        try:
            server.wait(settings.start_within, stop)
            yield server
        finally:
            server.close()


class Server:
    """A server that runs, and what was loaded into it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", log: Path, settings: ServeSettings, key: str, probe: Sequence[int]
    ) -> None:
        self._process, self._log, self._probe = process, log, list(probe)
        self.guarded = bool(key)
        self.loaded: dict[str, str] = {}
        self._of_base: list[float] = []
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # no proxy of the environment: what is asked is on this machine, and the token stays here
        address = f"http://{_address(settings)}"
        self._client = httpx.Client(base_url=address, headers=headers, timeout=PATIENCE, trust_env=False)

    def wait(self, within: float, stop: Callable[[], bool]) -> None:
        """Until it answers for the base."""
        until = time.monotonic() + within
        while True:
            self.check()
            if stop():
                raise Interrupted("the server was stopped before it was ready")
            if time.monotonic() > until:
                raise InfraError(
                    f"the server was not ready within {within:g} s{self._tail()}", hint="try --start-within"
                )
            with contextlib.suppress(httpx.HTTPError):
                if self._client.get("/health").status_code == 200:
                    break
            time.sleep(0.2)
        self._of_base = self._scores(BASE)

    def load(self, name: str, folder: str) -> None:
        """Load an adapter beside the others, and keep it only where a probe shows it: it moves the model's
        probabilities, and leaves those of the base as they were.
        """
        body = {"lora_name": name, "lora_path": folder}
        response = self._client.post("/v1/load_lora_adapter", json=body)
        if response.status_code != 200:
            raise InfraError(f"vLLM did not take {name} from {folder}: {first_line(response.text, 300)}")
        try:
            self._prove(name, folder)
        except (SealError, httpx.HTTPError):
            with contextlib.suppress(httpx.HTTPError):  # whoever asks for it by name is not to be answered by it
                self._client.post("/v1/unload_lora_adapter", json={"lora_name": name})
            raise
        self.loaded[name] = folder

    def _prove(self, name: str, folder: str) -> None:
        own = self._scores(name)
        if _apart(own, self._of_base) < NO_DIFFERENCE and not changes_nothing(folder):
            raise InfraError(
                f"{name} was loaded but answers as the base does",
                hint="check that its layers are ones that vLLM gives adapters to",
            )
        if _apart(self._scores(BASE), self._of_base) > 0.05:
            raise InfraError(f"with {name} loaded the base no longer answers as it did", hint="do not use this server")

    def check(self) -> None:
        code = self._process.poll()
        if code is not None:
            raise InfraError(f"the server ended with code {code}{self._tail()}", hint="the lines above say why")

    def close(self) -> None:
        """End the server and everything that it started."""
        self._client.close()
        for number in (signal.SIGTERM, signal.SIGKILL):  # the second also for what the server has left behind
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)

    def _scores(self, name: str) -> list[float]:
        """The log-probabilities of the probe's tokens, and of what comes after it."""
        body: dict[str, Any] = {"model": name, "prompt": self._probe, "max_tokens": 4, "temperature": 0}
        body |= {"prompt_logprobs": 0, "logprobs": 0, "seed": 0}
        response = self._client.post("/v1/completions", json=body)
        if response.status_code != 200:
            raise InfraError(f"{name} does not answer ({response.status_code}): {first_line(response.text, 300)}")
        try:
            positions = response.json()["choices"][0]["prompt_logprobs"]
            of_prompt = [
                float(position[str(token)]["logprob"])
                for token, position in zip(self._probe, positions, strict=True)
                if position
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            of_prompt = []
        if len(of_prompt) != len(self._probe) - 1 or not all(map(math.isfinite, of_prompt)):
            raise InfraError(f"{name} gives no log-probabilities of the probe", hint="use the vLLM that seal-ray pins")
        return of_prompt

    def _tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()[-TAIL:]
        except OSError:
            return ""
        return ":\n" + "\n".join(lines) + "\n" if lines else ""


def _command(served: Served, settings: ServeSettings) -> list[str]:
    cpu = settings.device == "cpu"
    longest = min(served.model.max_length, models.shape(served.base).context or served.model.max_length)
    to_come = served.run.config.largest_rank if served.run else 1  # of the versions that the run may still make
    dtype = models.pick_dtype(served.model.dtype, "cpu" if cpu else "cuda")
    if dtype == "float32" and not cpu:  # said here: vLLM fails deep inside of its start
        raise ConfigError(
            "model.dtype: vLLM's adapters on a GPU are computed in 16 bits, not in float32", hint="use --device cpu"
        )
    command = [sys.executable, "-m", "seal_ray.sampling.server", "--model", served.base]
    command += ["--served-model-name", BASE, "--host", settings.host, "--port", str(settings.port)]
    command += ["--dtype", dtype]
    command += ["--max-model-len", str(longest), "--generation-config", "vllm", "--disable-log-stats"]
    command += ["--enable-lora", "--max-loras", str(ADAPTERS if not cpu else 4), "--max-cpu-loras", str(ADAPTERS)]
    command += ["--max-lora-rank", str(served_rank(max(served.rank, to_come)))]
    command += ["--lora-target-modules", *target_modules(linear_layers(served.base))]
    command += ["--uvicorn-log-level", "warning", "--disable-fastapi-docs"]
    command += ["--middleware", f"{Guard.__module__}.{Guard.__name__}"]
    if served.model.trust_remote_code:
        command.append("--trust-remote-code")
    if cpu:
        command += ["--kv-cache-memory-bytes", str(int(settings.kv_cache_gb * 2**30)), "--enforce-eager"]
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(longest, 4096))]
    else:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory)]
    return command


def _environment(settings: ServeSettings, key: str) -> dict[str, str]:
    """The child's environment. A token stands there and not among its arguments, which every user can see."""
    env = {k: v for k, v in os.environ.items() if k not in {KEY, "VLLM_API_KEY", "VLLM_ENABLE_V1_MULTIPROCESSING"}}
    env |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "SEAL_RAY_SERVE_DEVICE": settings.device}
    env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # FlashInfer's sampler is compiled by nvcc while the server starts, which ends where no CUDA toolkit is installed
    # (as in our image); vLLM's own is at hand everywhere
    env.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    if settings.device == "cpu":  # compiling what ranks log-probabilities would keep the first request waiting
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env | ({"VLLM_API_KEY": key} if key else {})


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    return max((abs(a - b) for a, b in zip(one, other, strict=True)), default=0.0)


def _address(settings: ServeSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'127.0.0.1' if settings.host == '0.0.0.0' else host}:{settings.port}"

"""A real Ray head with its job server and token authentication, on free ports and with files of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command import OF_ANY_CLUSTER, environment
from free_ports import free_ports

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """Where it is: Ray's own address, the job server's, and the file with the token that both want."""

    address: str
    jobs: str
    token: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What a person who may use the cluster has set."""
        return member(RAY_AUTH_TOKEN_PATH=str(self.token), RAY_API_SERVER_ADDRESS=self.jobs, **more)


def member(**more: str) -> dict[str, str]:
    """An environment with token authentication and without this machine's own token."""
    kept = {k: v for k, v in environment().items() if not k.startswith("RAY_") or k == OF_ANY_CLUSTER}
    path = f"{BIN}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"RAY_AUTH_MODE": "token", "PATH": path, "PYTHONUNBUFFERED": "1"} | more


@contextlib.contextmanager
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))  # Ray's sockets want a short path
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    port, jobs, client, agent = free_ports(4)
    found = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}", token)
    words = ["start", "--head", "--block", f"--port={port}", f"--dashboard-port={jobs}", "--dashboard-host=127.0.0.1"]
    words += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}", "--num-cpus=2"]
    words += [f"--temp-dir={folder}/ray", "--disable-usage-stats"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "ray"), *words],
            env=found.environment(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 600
        while asks(found.jobs, token.read_text()) != 200:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.5)
        yield found
    finally:
        # the session that we started, and nobody else's Ray
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def asks(jobs: str, token: str = "") -> int:
    """The status that the job server answers a question with; 0 if it does not answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{jobs}/api/jobs/", headers=headers), timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0

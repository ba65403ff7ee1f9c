"""A real Slurm on this machine: one controller and several slurmd, with ports, keys and files of its own."""

import contextlib
import getpass
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from command import OF_ANY_CLUSTER
from free_ports import free_ports

from seal_ray import cache_folder

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CPUS = 4
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
MpiDefault=none
KillWait=5
MinJobAge=3600
SlurmdTimeout=20
ReturnToService=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def _submitter() -> str:
    """Who submits: nobody, whose jobs may do as little as any user's, where nobody may run this Python; else root."""
    try:
        who = pwd.getpwnam("nobody")
        subprocess.run([sys.executable, "-c", ""], user=who.pw_uid, group=who.pw_gid, extra_groups=[], check=True)
    except (OSError, subprocess.SubprocessError):
        return "root"
    return "nobody"


USER = _submitter()


def missing() -> str:
    """What this machine lacks for a Slurm of its own; "" if it has everything."""
    if getpass.getuser() != "root":
        return "slurmd gives a job its user's identity, so this needs root"
    gone = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=_path())]
    return f"{', '.join(gone)} not installed (Debian: slurm-wlm munge)" if gone else ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass
class Slurm:
    folder: Path
    nodes: list[str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        strange = {k for k in os.environ if k.startswith(("RAY_", "SLURM_", "SBATCH_"))} - {OF_ANY_CLUSTER}
        kept = {k: v for k, v in os.environ.items() if k not in strange}
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{BIN}:{_path()}", "HOME": str(self.home)}
        own[cache_folder.ROOT] = str(self.home / "models")  # the folder that all other tests share is not this user's
        return kept | own | {"PYTHONPATH": str(ROOT)} | more

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def call(self, *words: str, user: str = USER, **env: str) -> str:
        who = pwd.getpwnam(user)
        done = subprocess.run(
            words,
            env=self.environment(**env),
            cwd=self.home,
            user=who.pw_uid,
            group=who.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, script: Path, *arguments: str, nodes: int = 2, options: tuple[str, ...] = (), **env: str) -> int:
        shape = [f"--nodes={nodes}", "--cpus-per-task=1", "--gres=none", "--time=20", f"--output={self.home}/%j.log"]
        return int(self.call("sbatch", "--parsable", *shape, *options, str(script), *arguments, **env))

    def log(self, job: int) -> str:
        path = self.home / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def field(self, job: int, name: str) -> str:
        match = re.search(rf"\b{name}=(\S*)", self.call("scontrol", "show", "job", str(job)))
        return match[1] if match else ""

    def state(self, job: int) -> str:
        return self.field(job, "JobState")

    def until(self, what: Callable[[], object], job: int, seconds: float = 800) -> None:
        """Wait for something; a job that is over and has not done it never will."""
        end = time.monotonic() + seconds
        while not what():
            over = self.state(job) in OVER and not what()
            assert time.monotonic() < end and not over, self.told(job)
            time.sleep(0.5)

    def told(self, job: int) -> str:
        files = sorted(self.home.glob(f"seal-ray-logs/{job}-*/*"))
        return "\n".join(
            [f"job {job} is {self.state(job)}", self.log(job), *(f"--- {p}\n{p.read_text()[-2000:]}" for p in files)]
        )

    def ended(self, job: int) -> str:
        """The job's last state and exit code, once it has one."""
        self.until(lambda: self.state(job) in OVER, job)
        return f"{self.state(job)} {self.field(job, 'ExitCode').split(':')[0]}"

    def processes(self) -> list[str]:
        """What the user that submits runs on this machine."""
        done = subprocess.run(
            ["ps", "-ww", "-u", USER, "-o", "pid=,args="], capture_output=True, text=True, check=False
        )
        # what only waits to be reaped is over
        return [line for line in done.stdout.splitlines() if "<defunct>" not in line]

    def left(self, seconds: float = 60) -> list[str]:
        """What of Ray is still there when a job has been over for so long."""
        end = time.monotonic() + seconds
        while (left := [p for p in self.processes() if "ray" in p]) and time.monotonic() < end:
            time.sleep(0.5)
        return left

    def start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                words, env=self.environment(), stdout=out, stderr=out, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def crash(self, node: str) -> None:
        """The node is gone, with all that ran on it, and nobody says goodbye."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        for pid in [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]:
            with contextlib.suppress(OSError):
                if f"SLURMD_NODENAME={node}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def slurm(count: int = 2) -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    who = pwd.getpwnam(USER)
    nodes = [f"n{i + 1}" for i in range(count)]
    controller, *ports = free_ports(count + 1)
    host = socket.gethostname().split(".")[0]
    lines = [
        f"NodeName={n} NodeHostname={host} NodeAddr=127.0.0.1 Port={p} CPUs={CPUS} RealMemory=4000 State=UNKNOWN"
        for n, p in zip(nodes, ports, strict=True)
    ]
    for name in ("state", "home", *(f"spool-{n}" for n in nodes)):
        (folder / name).mkdir()
    os.chown(folder / "home", who.pw_uid, who.pw_gid)
    conf = CONF.format(host=host, controller=controller, folder=folder, nodes="\n".join(lines))
    (folder / "slurm.conf").write_text(conf)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    found = Slurm(folder, nodes)
    try:
        files = [f"--{n}={folder}/munge.{n}" for n in ("socket", "pid-file", "log-file", "seed-file")]
        found.start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *files)
        end = time.monotonic() + 300
        while not (folder / "munge.socket").exists():
            assert time.monotonic() < end, (folder / "munged.out").read_text()
            time.sleep(0.1)
        found.start("slurmctld", "slurmctld", "-D", "-i")
        for node in nodes:
            found.start_node(node)
        while _idle(found) < count:
            assert time.monotonic() < end, [p.read_text()[-3000:] for p in folder.glob("*.log")]
            time.sleep(0.5)
        yield found
    finally:
        for node in nodes:
            found.crash(node)
        for daemon in reversed(found.daemons.values()):
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _idle(found: Slurm) -> int:
    try:
        return len(found.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", user="root").split())
    except AssertionError:
        return 0

"""A real S3 on this machine: Ceph's RADOS gateway with one monitor, one manager and one OSD, on loopback only.

Its packages (ceph-mon, ceph-mgr, ceph-osd, radosgw, ceph-common of Debian) are no part of the project: where they are
not installed the tests that need it are skipped, and say so. It runs as root only.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from free_ports import free_ports

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool")
KEYS = {
    "AWS_ACCESS_KEY_ID": "TESTACCESSKEY0000001",
    "AWS_SECRET_ACCESS_KEY": "TestSecretKeyOnLoopback0000000000000001",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SETTINGS = """
[global]
fsid = {cluster}
mon_host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
osd_memory_target = 1500000000
ms_bind_ipv6 = false
ms_cluster_mode = crc
ms_service_mode = crc
ms_client_mode = crc
ms_mon_cluster_mode = crc
ms_mon_service_mode = crc
ms_mon_client_mode = crc
run_dir = {folder}/run
log_file = {folder}/log/$name.log
mon_cluster_log_file = {folder}/log/cluster.log
admin_socket = {folder}/run/$name.$pid.asok
crash_dir = {folder}/run
setuser_match_path =
keyring = {folder}/keyring
[mon.a]
host = localhost
mon_data = {folder}/mon
[mgr]
mgr_data = {folder}/mgr
mgr_initial_modules =
[osd.0]
osd_data = {folder}/osd
osd_objectstore = bluestore
bluestore_block_size = 8589934592
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_data = {folder}/rgw
rgw_dns_name = localhost
rgw_enable_usage_log = false
"""


def missing() -> str:
    """Why there is none; empty where there may be one."""
    absent = [p for p in PROGRAMS if not shutil.which(p)]
    if absent:
        return f"no real S3: {absent[0]} is not installed (ceph-mon, ceph-mgr, ceph-osd, radosgw, ceph-common)"
    return "" if os.geteuid() == 0 else "no real S3: Ceph's daemons are started as root only"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The endpoint, until the end of the block."""
    cluster = _Cluster(folder)
    try:
        cluster.start()
        yield cluster.endpoint
    finally:
        cluster.stop()


class _Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *monitor = free_ports(3)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.daemons: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "mgr", "osd", "rgw", "log", "run"):
            (folder / name).mkdir(parents=True)
        self.settings = folder / "ceph.conf"
        ports = {"port": self.port, "mon1": monitor[0], "mon2": monitor[1]}
        text = SETTINGS.format(cluster=uuid.uuid4(), folder=folder, **ports)
        self.settings.write_text(text)
        self.cluster = re.search(r"fsid = (\S+)", text)[1]  # pyright: ignore[reportOptionalSubscript]
        self.mon = f"[v2:127.0.0.1:{ports['mon2']},v1:127.0.0.1:{ports['mon1']}]"

    def start(self) -> None:
        keyring, monmap = f"{self.folder}/keyring", f"{self.folder}/monmap"
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self._run("monmaptool", "--create", "--addv", "a", self.mon, "--fsid", self.cluster, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        self._wait("the monitor", lambda: self._try("ceph", "-s") is not None)
        self._daemon("ceph-mgr", "-i", "a")
        number = str(uuid.uuid4())
        assert self._run("ceph", "osd", "new", number).strip() == "0"
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", number)
        self._daemon("ceph-osd", "-i", "0")
        self._wait("the OSD", lambda: "1 up" in (self._try("ceph", "osd", "stat") or ""))
        self._daemon("radosgw", "-n", "client.rgw.a")
        self._wait("the gateway", self._answers)
        keys = ["--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"]]
        self._run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        (self.folder / "osd/block").unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _run(self, *words: str) -> str:
        command = [words[0], "-c", str(self.settings), *words[1:]]
        if words[0] in ("ceph-authtool", "monmaptool"):
            command = list(words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def _try(self, *words: str) -> str | None:
        try:
            return self._run(*words)
        except (AssertionError, subprocess.TimeoutExpired):
            return None

    def _daemon(self, *words: str) -> None:
        with (self.folder / "log/out").open("ab") as out:
            command = [words[0], "-c", str(self.settings), *words[1:], "-f"]
            self.daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def _wait(self, what: str, is_there: object) -> None:
        assert callable(is_there)
        until = time.monotonic() + 120
        while not is_there():
            assert time.monotonic() < until, f"{what} did not come up; see {self.folder}/log"
            time.sleep(0.3)

"""Makes a sandbox from the kernel's namespaces, where there is no bubblewrap: run as a program of its own.

An ordinary user gets a user namespace first. Root makes the rest as root, so that what is to be shown need
not be readable by others, and becomes nobody in a user namespace of its own before anything of the sandbox runs.
"""

import os
import signal
import sys
from typing import NoReturn

from seal_ray.sandbox.inside import calls
from seal_ray.sandbox.inside.calls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

NOBODY = 65534
APART = (
    calls.CLONE_NEWNS
    | calls.CLONE_NEWPID
    | calls.CLONE_NEWNET
    | calls.CLONE_NEWIPC
    | calls.CLONE_NEWUTS
    | calls.CLONE_NEWCGROUP
)
DEVICES = ("null", "zero", "urandom")


def main(shown: list[str], scripts: dict[str, str], disk: int, command: list[str]) -> NoReturn:
    """`shown`: folders of this machine, read only. `scripts`: files by their path in the sandbox."""
    calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
    user = (os.getuid(), os.getgid())
    privileged = user[0] == 0 and _may(APART)
    if not privileged:
        calls.unshare(calls.CLONE_NEWUSER)
        _become_nobody_of(*user)
        calls.unshare(APART)
    alive, held = os.pipe()
    child = os.fork()
    if child:
        os.close(alive)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(held)
    calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.set_blocking(alive, False)
    if _closed(alive):
        os._exit(1)
    os.setsid()
    _put_together(shown, scripts, disk)
    if privileged:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        calls.prctl(calls.PR_SET_DUMPABLE, 1)  # else this process's own maps belong to root
        calls.unshare(calls.CLONE_NEWUSER)
        _become_nobody_of(NOBODY, NOBODY)
    calls.drop_capabilities()
    calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user takes it back
    os.execve(command[0], command, {})


def _may(flags: int) -> bool:
    try:
        calls.unshare(flags)
    except PermissionError:  # root without its powers, in a container
        return False
    return True


def _become_nobody_of(user: int, group: int) -> None:
    """In the new user namespace this process is nobody; outside of it, it stays who it was."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _closed(pipe: int) -> bool:
    """Whether the other end went while this process began."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _put_together(shown: list[str], scripts: dict[str, str], disk: int) -> None:
    calls.mount("", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    links = {path: os.readlink(path) for path in shown if os.path.islink(path)}
    # a bind of what is shown is made before the new root hides a part of the old one
    calls.mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "size=8m,mode=755")
    new = "/proc/new"
    os.mkdir(new)
    for path, target in links.items():
        os.makedirs(os.path.dirname(new + path), exist_ok=True)
        os.symlink(target, new + path)
    for path in shown:
        if path not in links and os.path.exists(path):
            _bind(path, new + path, MS_RDONLY | MS_NOSUID | MS_NODEV)
    for name in DEVICES:
        _bind(f"/dev/{name}", f"{new}/dev/{name}", MS_NOSUID | MS_NOEXEC)
    for path, text in scripts.items():
        os.makedirs(os.path.dirname(new + path), mode=0o755, exist_ok=True)
        with open(new + path, "w") as file:
            file.write(text)
    for name in ("proc", "tmp"):
        os.mkdir(f"{new}/{name}")
    restricted = MS_NOSUID | MS_NODEV | MS_NOEXEC
    calls.mount("tmpfs", f"{new}/tmp", "tmpfs", restricted, f"size={disk},nr_inodes=800,mode=1777")
    calls.mount("proc", f"{new}/proc", "proc", restricted, "subset=pid")
    _bind(new, new, 0)
    os.chdir(new)
    calls.pivot_root(".", ".")
    calls.unmount(".")
    os.chdir("/tmp")
    calls.restrict_mount("/", MS_RDONLY | MS_NOSUID | MS_NODEV, recursive=False)


def _bind(source: str, target: str, flags: int) -> None:
    if source != target:
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT))
    calls.mount(source, target, flags=calls.MS_BIND | calls.MS_REC)
    if flags:
        calls.restrict_mount(target, flags, recursive=True)


def run(words: list[str]) -> NoReturn:
    """What a command says: JSON on the command line, for stdin is the sandbox's."""
    import json

    os.umask(0o022)
    try:
        main(**json.loads(words[0]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(REFUSED)


REFUSED = 97  # the status with which no sandbox could be made

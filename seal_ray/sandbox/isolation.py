"""What keeps a program apart on this machine: bubblewrap, namespaces, or nothing where that is allowed."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from seal_ray.sandbox.inside.namespaces import NOBODY

IsolationKind = Literal["bubblewrap", "namespaces", "none"]
PACKAGE = Path(__file__).parents[1]
FOLDER = "/sandbox"  # where the scripts are, inside
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Isolation:
    """One way to start the supervisor."""

    kind: IsolationKind

    @property
    def python(self) -> str:
        """The interpreter without its virtual environment: the standard library is all there is."""
        return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())

    def command(self, disk: int) -> list[str]:
        """What is started, with the supervisor's `spec` on its stdin."""
        if self.kind == "none":
            return self._supervisor(str(PACKAGE.parent))
        if self.kind == "bubblewrap":
            return [*self._bubblewrap(disk), "--", *self._supervisor(FOLDER)]
        asked = {"shown": shown(), "scripts": scripts(), "disk": disk, "command": self._supervisor(FOLDER)}
        code = _code(str(PACKAGE.parent), "namespaces") + "namespaces.run(sys.argv[1:])"
        return [self.python, "-I", "-S", "-B", "-c", code, json.dumps(asked)]

    @property
    def user(self) -> int | None:
        """Whom to start it as: bubblewrap makes everything as the user that starts it, so root starts it as nobody."""
        return NOBODY if self.kind == "bubblewrap" and os.geteuid() == 0 else None

    def host(self) -> list[str]:
        """What the supervisor starts for the solution; without -I, so that the order of sets is the same each time."""
        root = str(PACKAGE.parent) if self.kind == "none" else FOLDER
        return [self.python, "-s", "-P", "-S", "-B", "-c", _code(root, "solution_host") + "solution_host.main()"]

    def _supervisor(self, root: str) -> list[str]:
        return [self.python, "-I", "-S", "-B", "-c", _code(root, "supervisor") + "supervisor.main()"]

    def _bubblewrap(self, disk: int) -> list[str]:
        words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--die-with-parent"]
        words += ["--new-session", "--as-pid-1", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        words += ["--cap-drop", "ALL", "--clearenv"]
        for path in shown():
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
            elif os.path.exists(path):
                words += ["--ro-bind", path, path]
        words += ["--ro-bind", str(PACKAGE / "sandbox/inside"), f"{FOLDER}/seal_ray/sandbox/inside"]
        words += [
            "--dev",
            "/dev",
            "--remount-ro",
            "/dev",
            "--proc",
            "/proc",
            "--size",
            str(disk),
            "--tmpfs",
            "/tmp",
            "--remount-ro",
            "/",
        ]
        return [*words, "--chdir", "/tmp"]


def _code(root: str, module: str) -> str:
    """Only the files in `inside` are needed, and only they are there: the packages around them stay unopened."""
    return (
        "import sys, types; "
        f"root = {root!r}; sys.path.insert(0, root); "
        "sys.modules['seal_ray'] = house = types.ModuleType('seal_ray'); house.__path__ = [root + '/seal_ray']; "
        "sys.modules['seal_ray.sandbox'] = room = types.ModuleType('seal_ray.sandbox'); "
        "room.__path__ = [root + '/seal_ray/sandbox']; "
        f"from seal_ray.sandbox.inside import {module}; "
    )


@cache
def shown() -> list[str]:
    """Folders that a sandbox shows: the system's programs and libraries, and Python's own."""
    base = str(Path(sys.base_prefix).resolve())
    return [*SYSTEM, *([] if base == "/usr" or base.startswith("/usr/") else [base])]


@cache
def scripts() -> Mapping[str, str]:
    folder = Path(__file__).parent / "inside"
    return {f"{FOLDER}/seal_ray/sandbox/inside/{f.name}": f.read_text() for f in sorted(folder.glob("*.py"))}

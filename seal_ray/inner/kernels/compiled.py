"""The C++ file as a library of this process: compiled once for a machine's processor, and kept in the user's cache."""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from seal_ray.cache_folder import default_root

SOURCE = Path(__file__).with_name("cpu_block.cpp")
COMPILERS = ("g++", "c++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
LONGEST = 300.0  # seconds of a compiler that gets little of a processor


def library() -> ctypes.CDLL:
    """Processes that want it at the same time compile it each; whoever is last puts it in place of the same."""
    folder = _folder()
    file = folder / f"cpu_block-{_key()}.so"
    if not file.exists():
        _compile(file)
    _trust(file)
    return ctypes.CDLL(str(file))


def _key() -> str:
    """What the library depends on: its source, how it is compiled, and for which processor."""
    described = [SOURCE.read_text(), *FLAGS, platform.machine(), *platform.libc_ver(), *_processor()]
    return sha256("\n".join(described).encode()).hexdigest()[:32]


def _processor() -> list[str]:
    """What it is called and can do; all of a machine are alike."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return [platform.processor()]
    return [line for line in lines if line.startswith(("model", "flags", "Features", "CPU"))]


def _folder() -> Path:
    """A folder that nobody else may write to; the user's own in a cache that several share."""
    root = default_root()
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"kernels-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    _trust(folder)
    return folder


def _trust(path: Path) -> None:
    state = path.lstat()
    if state.st_uid != os.geteuid() or state.st_mode & 0o022 or path.is_symlink():
        raise PermissionError(f"{path} belongs to somebody else, or others may write to it; remove it")


def _compile(file: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError(f"no C++ compiler ({' or '.join(COMPILERS)})")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="making-") as making:
        made = Path(making, file.name)
        command = [compiler, *FLAGS, "-o", str(made), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode != 0:
            raise OSError(f"{compiler} ends with {done.returncode}: {done.stderr.strip()[:500]}")
        made.chmod(0o700)
        made.replace(file)

"""The text of a PDF, page by page, through pypdf (the extra `documents`) in a process of its own."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from seal_ray.domains.documents import pdf_process
from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.errors import ConfigError, InfraError

SECONDS, SECONDS_PER_MB = 120, 20  # of computing
MEMORY, MEMORY_PER_BYTE = 1 << 30, 8  # bytes
CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS}
HYPHEN = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
NUMBER = re.compile(r"\s*\d{1,4}\s*")


def pdf_text(data: bytes) -> tuple[str, str, int]:
    """The title that the document gives itself, the text of all its pages as one, and how many have none."""
    if importlib.util.find_spec("pypdf") is None:
        raise ConfigError(
            "domain.data: reading PDF needs the package pypdf", hint="install it: pip install 'seal-ray[documents]'"
        )
    title, pages = _read(data)
    flowing = [text for page in pages if (text := _flowing(page)).strip()]
    if not flowing:
        raise Unreadable("no_text", "the PDF holds pictures of text and no text; recognise it first (OCR)")
    return title, "\n".join(flowing), len(pages) - len(flowing)


def _read(data: bytes) -> tuple[str, list[str]]:
    seconds = SECONDS + int(len(data) / 1e6 * SECONDS_PER_MB)
    memory = MEMORY + MEMORY_PER_BYTE * len(data)
    # -P: what stands beside that file must not be taken for a library
    words = [sys.executable, "-P", str(Path(pdf_process.__file__)), str(seconds), str(memory)]
    done = subprocess.run(words, input=data, capture_output=True, check=False)
    if done.returncode < 0:
        _refuse(signal.Signals(-done.returncode), seconds)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise Unreadable("damaged", f"the PDF can't be read: reading it ended with {done.returncode}") from None
    if "kind" in said:
        raise Unreadable(said["kind"], said["reason"])
    return said["title"], said["pages"]


def _refuse(ended_by: signal.Signals, seconds: int) -> NoReturn:
    """Whether a signal speaks of the file or of the machine: there, the same file may be read at another time."""
    if ended_by == signal.SIGXCPU:
        raise Unreadable("slow", f"the PDF takes more than {seconds} s of computing to read; save it as text")
    if ended_by in CRASHES:
        raise Unreadable("damaged", f"the PDF can't be read: it crashes its reader ({ended_by.name}); save it as text")
    raise InfraError(
        f"the process that read it was killed ({ended_by.name})",
        hint="SIGKILL is most often the kernel's, for want of memory: start again with more of it, or save it as text",
    )


def _flowing(page: str) -> str:
    """Words that a line's end cut in two are whole again. A first or last line that is but a number is the page's."""
    lines = page.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    for at in (0, -1):
        if lines and NUMBER.fullmatch(lines[at]):
            del lines[at]
    return HYPHEN.sub("", "\n".join(lines))

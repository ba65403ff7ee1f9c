"""How a process ends where no `finally` will run: from a thread of its own, while the loop is stuck in a library."""

import os
import sys
from typing import NoReturn

from seal_ray.text import printable

SHOW_CURSOR = "\x1b[?25h"  # a live display hides it


def end_process(message: str, code: int) -> NoReturn:
    """Say why, and end at once."""
    try:
        shown = SHOW_CURSOR if sys.stderr.isatty() else ""
        sys.stderr.write(f"{shown}\nseal-ray: {printable(message)}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)

"""How the process ends: with a message that can be read, and a code that a script or a cluster acts on."""

import contextlib
import os
import sys
import traceback
from typing import NoReturn

from seal_ray.redaction import redact
from seal_ray.text import printable

ZERO_WHEN_FINAL = "SEAL_RAY_ZERO_WHEN_FINAL"
FINAL = (2, 4, 5)  # exit codes of what a restart does not change


def exit_code(code: int) -> int:
    """What the process is left with: 0 for an end that stays the same, where that was asked for."""
    if code not in FINAL or os.environ.get(ZERO_WHEN_FINAL) != "1":
        return code
    sys.stderr.write(f"seal-ray: ended for good with code {code}; left with 0, for a restart would end the same way\n")
    return 0


def fail(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):  # the code says it as well where nobody can be told
        if os.environ.get("SEAL_RAY_DEBUG") == "1":
            sys.stderr.write(printable(redact(traceback.format_exc())))
        for line in redact(message).splitlines():
            sys.stderr.write(f"seal-ray: {printable(line)}\n")
    sys.exit(exit_code(code))

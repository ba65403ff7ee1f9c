"""The solution's own process: it runs what a model wrote and calls its functions when it is asked to.

Nothing here is safe from the solution, and nothing here knows what the tests want: it could only lie to itself.
"""

import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from seal_ray.sandbox.inside.wire import decode, encode

MESSAGE = 300  # characters of an exception's text
REQUESTS, REPLIES = 3, 4  # the pipes to the supervisor


def main() -> None:
    os.setsid()
    asked, said = os.fdopen(REQUESTS, "r", encoding="utf-8"), os.fdopen(REPLIES, "w", encoding="utf-8")
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    sys.path.pop(0)
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def reply(line: str, make: Callable[[Any], dict[str, Any]]) -> None:
        number, request = json.loads(line)
        try:
            text = json.dumps([number, make(request)])
        except BaseException as error:  # whatever a solution raises, also what would end a process
            text = json.dumps([number, {"raised": [type(error).__name__, str(error)[:MESSAGE]]}])
        said.write(text + "\n")
        said.flush()

    def load(text: str) -> dict[str, Any]:
        exec(compile(text, "solution.py", "exec"), module.__dict__)
        own = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        called = sorted(name for name, value in own.items() if callable(value))
        plain = {name: encode(value, keep) for name, value in own.items() if isinstance(value, _PLAIN)}
        return {"called": called, "plain": plain}

    def call(request: dict[str, Any]) -> dict[str, Any]:
        args = [decode(arg, kept.__getitem__) for arg in request["args"]]
        words = {name: decode(value, kept.__getitem__) for name, value in request["words"].items()}
        value = vars(module)[request["call"]](*args, **words)
        changed = [encode(arg, keep) if isinstance(arg, (list, dict, set)) else None for arg in args]
        return {"value": encode(value, keep), "changed": changed}

    reply(asked.readline(), load)
    for line in asked:
        reply(line, call)


_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)

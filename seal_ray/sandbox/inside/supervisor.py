"""The first process of a sandbox: it holds the tests, starts the solution in a process of its own, and watches it.

A case runs here. The names of the solution are stand-ins that ask the solution's process, which knows neither the tests
nor the pipe by which the outcome leaves. As the first process of its namespace this one can't be killed from within.
"""

import builtins
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from seal_ray.sandbox.inside import calls, seccomp
from seal_ray.sandbox.inside.hosting import NAP, Ended, Host
from seal_ray.sandbox.inside.wire import Handle, Unsendable

GRACE = 1.0  # seconds that a test may take besides what it asks the solution


class Raised(Exception):
    """An exception of the solution whose type is not one of Python's own."""


class Late(BaseException):
    """A test does not end. No `except Exception` of a test holds it up."""


class NoTest(Exception):
    """A test is no Python."""


def main() -> None:
    spec = json.loads(sys.stdin.buffer.read())
    outcome = os.dup(1)  # closed in every process that is started
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    limits = spec["limits"]
    _restrict(limits)
    host = Host(spec["solution"], limits, spec["host"])
    said = {"nonce": spec["nonce"], "cases": Examination(spec, host).run()}
    host.close()
    with os.fdopen(outcome, "w") as pipe:
        json.dump(said, pipe)
    os._exit(0)  # with the first process of a namespace all others end


def _restrict(limits: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which doesn't reach the first process
    calls.prctl(calls.PR_SET_DUMPABLE, 0)  # nobody may read this process's memory
    calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)  # whoever the solution leaves behind comes here
    calls.drop_capabilities()
    seccomp.install()
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["disk"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, 16 << 20),
    ):
        resource.setrlimit(kind, (value, value))
    if os.getpid() == 1:  # elsewhere all processes of the user count
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"],) * 2)


class Examination:
    """All cases of a program, one after another.

    A test that ends without having asked the solution for anything ends so for every solution: it is broken.
    """

    def __init__(self, spec: dict[str, Any], host: Host) -> None:
        self.entry, self.cases, self.setup = spec["entry"], spec["cases"], spec["setup"]
        self.redefines = {*spec["redefines"], spec["entry"]}
        self.host, self.limits = host, spec["limits"]
        self.ends = time.monotonic() + self.limits["total"]
        self.alarm = self.busy = math.inf  # on the wall, and of this thread's own computing
        self.asked = True  # whether what the case comes to may rest on the solution
        signal.signal(signal.SIGALRM, self._too_long)
        signal.signal(signal.SIGPROF, self._too_long)

    def run(self) -> list[list[str]]:
        return [self._timed(case) for case in self.cases]

    def _timed(self, case: dict[str, Any]) -> list[str]:
        try:
            return self._case(case)
        except Late:
            return self._failed("timeout", "the test does not end")

    def _too_long(self, *_: Any) -> None:
        """An alarm, once a case; one that the solution sends is none."""
        if time.monotonic() >= self.alarm or time.thread_time() >= self.busy:
            self.alarm = self.busy = math.inf
            raise Late

    def _case(self, case: dict[str, Any]) -> list[str]:
        if time.monotonic() > self.ends:
            return ["timeout", f"all cases together take more than {self.limits['total']:g} s"]
        self.host.begin()
        self.asked = True
        self._set_alarms()
        try:
            failed = self._load() or (self._code(case["code"]) if "code" in case else self._values(case))
            return failed or self._passed()
        except Ended as ended:
            return [ended.kind, ended.message]
        except Unsendable as error:
            return ["unsupported", str(error)]
        except NoTest as error:
            return ["broken_test", str(error)]
        except NameError as error:  # most likely the solution's, which it lacks
            return ["raised", f"NameError: {error}"]
        except AssertionError as error:
            return self._failed("wrong", str(error)[:300] or "the assertion does not hold")
        except MemoryError:
            return self._failed("memory", "MemoryError")
        except Late:
            raise
        except BaseException as error:
            return self._failed("raised", f"{type(error).__name__}: {str(error)[:300]}")
        finally:
            self.alarm = self.busy = math.inf

    def _set_alarms(self) -> None:
        seconds, cpu = self.limits["seconds"] + GRACE, self.limits["cpu"] + GRACE
        self.alarm, self.busy = time.monotonic() + seconds, time.thread_time() + cpu
        signal.setitimer(signal.ITIMER_REAL, seconds + NAP, 1.0)
        signal.setitimer(signal.ITIMER_PROF, cpu + NAP, 1.0)

    def _passed(self) -> list[str]:
        return ["passed", ""] if self.asked else ["broken_test", "it passes without asking the solution"]

    def _failed(self, kind: str, message: str) -> list[str]:
        return [kind, message] if self.asked else ["broken_test", f"before it asks the solution: {message}"]

    def _load(self) -> list[str]:
        """Start the solution, unless it still stands. What it raises then, each case fails by."""
        self.host.start()
        if self.host.raised:
            name, message = self.host.raised
            if name in {"SyntaxError", "IndentationError", "TabError"}:
                return ["syntax_error", message]
            return ["memory" if name == "MemoryError" else "raised", f"{name}: {message}"]
        return []

    def _code(self, code: str) -> list[str]:
        plain = {name: value for name, value in self.host.plain().items() if self._may_name(name)}
        called = filter(self._may_name, self.host.called)
        steps = [compiled(self.setup, "setup"), compiled(code, "test")]
        names = {"__name__": "tests", **plain, **{name: self._stand_in(name) for name in called}}
        self.asked = any(name in plain for step in steps for name in names_in(step))
        for step in steps:
            exec(step, names)
        return []

    def _may_name(self, name: str) -> bool:
        """Whether the solution's value may go by this name in tests: with a `sorted` of its own it could pass them."""
        return not name.startswith("__") and (name in self.redefines or not hasattr(builtins, name))

    def _values(self, case: dict[str, Any]) -> list[str]:
        if self.entry not in self.host.called:
            return ["wrong", f"there is no function {self.entry}"]
        value = self._stand_in(self.entry)(*case["args"])
        return [] if alike(value, case["expected"]) else ["wrong", "another value than is expected"]

    def _stand_in(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **words: Any) -> Any:
            self.asked = True
            reply = self.host.call(name, args, words)
            if "raised" in reply:
                kind, message = reply["raised"]
                if kind == "MemoryError":
                    raise Ended("memory", "MemoryError")
                known = getattr(builtins, str(kind), None)
                own = isinstance(known, type) and issubclass(known, Exception)
                raise known(message) if known and own else Raised(f"{kind}: {message}")
            for arg, changed in zip(args, reply["changed"], strict=True):
                _update(arg, changed)
            return reply["value"]

        return ask


def compiled(code: str, name: str) -> CodeType:
    try:
        return compile(code, name, "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise NoTest(f"{name}: {type(error).__name__}: {str(error)[:300]}") from None


def names_in(code: CodeType) -> Iterator[str]:
    """Every name that a text may look up, in its functions too."""
    yield from code.co_names
    for held in code.co_consts:
        if isinstance(held, CodeType):
            yield from names_in(held)


def _update(arg: Any, changed: Any) -> None:
    """What a solution did to a list, dict or set that it was given, done to the test's own."""
    if isinstance(arg, list) and isinstance(changed, list):
        arg[:] = changed
    elif isinstance(arg, (dict, set)) and type(arg) is type(changed):
        arg.clear()
        arg.update(changed)


def alike(value: Any, expected: Any) -> bool:
    """Whether a value is what JSON says: its lists stand for tuples too, and floats are compared as such."""
    if isinstance(expected, list):
        own = list(value) if isinstance(value, (list, tuple)) else None
        return own is not None and len(own) == len(expected) and all(map(alike, own, expected))
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and {str(k) for k in value} == set(expected)
            and all(alike(v, expected[str(k)]) for k, v in value.items())
        )
    if isinstance(value, Handle) or isinstance(value, bool) != isinstance(expected, bool):
        return False
    if isinstance(expected, float) and isinstance(value, (int, float)):
        return value == expected or math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(value == expected)

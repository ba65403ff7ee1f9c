"""The solution's process as the supervisor has it: started, asked, watched, and ended with all that it started."""

import contextlib
import fcntl
import json
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from seal_ray.sandbox.inside.solution_host import REPLIES, REQUESTS
from seal_ray.sandbox.inside.wire import decode, encode

MOST_FILES = 900  # that may lie about
NAP = 0.01  # seconds between two looks
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
PARENT, SESSION = 1, 3  # where they are in stat, after a process's name


class Ended(Exception):
    """The solution's process is gone, or had to go."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class Host:
    """At most one process of the solution at a time, with a thread that looks after it."""

    def __init__(self, solution: str, limits: dict[str, Any], command: list[str]) -> None:
        self._solution, self._limits, self._command = solution, limits, command
        self._pid, self._looking = 0, threading.Lock()
        self._requests = self._replies = self._output = -1
        self._buffer, self._number = b"", 0  # of the question that is open
        self._why: Ended | None = None  # why the process had to go, or went
        self._printed, self._began, self._used = 0, time.monotonic(), 0.0
        self.called: set[str] = set()
        self.raised: list[str] | None = None
        self._values: dict[str, Any] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self) -> None:
        """A new case: its time begins now."""
        self._used, self._began = _usage(self._pid)[1], time.monotonic()

    def plain(self) -> dict[str, Any]:
        """The solution's values that are no functions, new for each test."""
        return {name: decode(value) for name, value in self._values.items()}

    def start(self) -> None:
        """A new process, unless one is there that nothing happened to."""
        if self._pid and not self._why:
            return
        self.close()
        self._spawn()
        reply = self._ask(self._solution)
        self.raised = [str(part) for part in reply["raised"]] if "raised" in reply else None
        try:
            self.called, self._values = {str(name) for name in reply.get("called", ())}, dict(reply.get("plain", {}))
            self.plain()
        except Exception:
            self._fail("died", "it said what is no reply")

    def call(self, name: str, args: tuple[Any, ...], words: dict[str, Any]) -> dict[str, Any]:
        if self._why:
            raise self._why
        request = {
            "call": name,
            "args": [encode(arg) for arg in args],
            "words": {key: encode(value) for key, value in words.items()},
        }
        reply = self._ask(request)
        if "raised" in reply:
            return {"raised": [str(part) for part in reply["raised"][:2]]}
        try:
            changed = [decode(value) for value in reply["changed"]]
            assert len(changed) == len(args)
            return {"value": decode(reply["value"]), "changed": changed}
        except Exception:
            self._fail("died", "it said what is no reply")

    def _spawn(self) -> None:
        inner_requests, self._requests = os.pipe()
        self._replies, inner_replies = os.pipe()
        self._output, inner_output = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (inner_requests, inner_replies, inner_output, null)]
        order = ((high[3], 0), (high[2], 1), (high[2], 2), (high[0], REQUESTS), (high[1], REPLIES))
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in order]
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in high]
        try:
            pid = os.posix_spawn(self._command[0], self._command, {"PYTHONHASHSEED": "0"}, file_actions=actions)
        finally:
            for fd in (inner_requests, inner_replies, inner_output, null, *high):
                os.close(fd)
        os.set_blocking(self._output, False)
        os.set_blocking(self._requests, False)
        self._buffer, self._why, self._printed = b"", None, 0
        self._used, self._began = 0.0, time.monotonic()
        self._pid = pid

    def _ask(self, request: Any) -> dict[str, Any]:
        try:
            self._number += 1
            return self._exchange(json.dumps([self._number, request]).encode() + b"\n")
        except Ended:
            raise
        except BaseException:  # an alarm: the reply to this would be taken for the next one's
            self._why = self._why or Ended("timeout", "the test does not end")
            _kill(self._pid)
            raise

    def _exchange(self, waiting: bytes) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if self._why:
                raise self._why
            wanted = [self._requests] if waiting else []
            readable, writable, _ = select.select([self._replies], wanted, [], 0.05)
            try:
                if writable:
                    waiting = waiting[os.write(self._requests, waiting) :]
                if readable:
                    piece = os.read(self._replies, 1 << 16)
                    if not piece:
                        self._gone()
                    self._buffer += piece
            except BrokenPipeError:
                self._gone()
            if len(self._buffer) > self._limits["output"]:
                self._fail("output", f"a value of more than {self._limits['output']} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            number, reply = json.loads(line)
            assert number == self._number and isinstance(reply, dict) and not self._buffer
            return reply
        except (ValueError, TypeError, AssertionError, RecursionError):
            self._fail("died", "it said what is no reply")

    def _gone(self) -> NoReturn:
        """The other end is closed: why is known a moment later."""
        until = time.monotonic() + 1
        while not self._why and time.monotonic() < until:
            time.sleep(NAP)
        self._fail("died", "its process ended")

    def _fail(self, kind: str, message: str) -> NoReturn:
        self._why = self._why or Ended(kind, message)
        _kill(self._pid)
        raise self._why

    def close(self) -> None:
        """Everything that the last process left."""
        with self._looking:
            pid, self._pid = self._pid, 0
        if not pid:
            return
        with contextlib.suppress(ChildProcessError):
            while True:
                _kill(pid)
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(NAP / 10)
        for fd in (self._requests, self._replies, self._output):
            os.close(fd)
        if os.getpid() == 1:
            _empty("/tmp")

    # the thread

    def _watch(self) -> None:
        while True:
            time.sleep(NAP)
            with self._looking:  # what is looked at stays open as long
                if self._pid and not self._why and (why := self._look(self._pid)):
                    self._why = self._why or why
                    _kill(self._pid)

    def _look(self, pid: int) -> Ended | None:
        limits = self._limits
        with contextlib.suppress(OSError):
            while self._printed <= limits["output"]:
                piece = os.read(self._output, 1 << 16)
                if not piece:
                    break
                self._printed += len(piece)
        memory, cpu, count = _usage(pid)
        if os.getpid() == 1 and (made := os.statvfs("/tmp")).f_files - made.f_ffree > MOST_FILES:
            return Ended("output", f"it made more than {MOST_FILES} files")
        if self._printed > limits["output"]:
            return Ended("output", f"it printed more than {limits['output']} bytes")
        if memory > limits["memory"]:
            return Ended("memory", f"its processes hold more than {limits['memory']} bytes")
        if count > limits["processes"]:
            return Ended("processes", f"it has more than {limits['processes']} processes")
        if cpu - self._used > limits["cpu"]:
            return Ended("timeout", f"it computes for more than {limits['cpu']:g} s")
        if time.monotonic() - self._began > limits["seconds"]:
            return Ended("timeout", f"it takes more than {limits['seconds']:g} s")
        return self._status(pid)

    def _status(self, pid: int) -> Ended | None:
        """Whether the process ended; whoever it left behind is buried."""
        with contextlib.suppress(ChildProcessError):
            while (other := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and other.si_pid != pid:
                os.waitpid(other.si_pid, os.WNOHANG)
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return Ended("died", "its process ended")
        if not ended:
            return None
        how = "by signal" if ended.si_code != os.CLD_EXITED else "with status"
        return Ended("died", f"its process ended {how} {ended.si_status}")


def _empty(folder: str) -> None:
    with contextlib.suppress(OSError, RecursionError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


def _kill(pid: int) -> None:
    """The solution and all that it started: in a namespace of its own, everybody but the first process."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    for number, fields in _processes():
        if pid in (number, int(fields[SESSION])) or int(fields[PARENT]) == os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    """The number of each process but the first, and what `stat` says after its name."""
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                yield int(name), fields


def _usage(pid: int) -> tuple[int, float, int]:
    """Bytes of memory, seconds of computing, and how many: of all processes of the solution."""
    alone = os.getpid() == 1
    memory, ticks, count = 0, 0, 0
    for number, fields in _processes():
        if alone or pid in (number, int(fields[SESSION])):
            ticks += sum(map(int, fields[11:15]))
            memory += int(fields[21]) * PAGE
            count += 1
    return memory, ticks / TICKS, count

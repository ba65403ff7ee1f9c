"""What a model might write to get out of its sandbox, tried for real: as root and as an ordinary user."""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sandbox_users import ROOT, examine, ready

from seal_ray.errors import NoIsolation
from seal_ray.sandbox import Isolation, Program, ProgramLimits, choose, run_program, runner

LIMITS = ProgramLimits(cpu=1.0, seconds=20, total=60, memory=256 << 20, disk=4 << 20, output=200_000, processes=12)
SOUND = "def add(a, b):\n    return a + b\n"
GOOD = {"code": "assert add(1, 2) == 3"}  # is asked last: what came before must not stand in its way


WAYS = [(kind, who) for kind in ("namespaces", "bubblewrap") for who in ("self", "nobody")]


@pytest.fixture(params=WAYS, ids="-".join)
def kinds(request):
    """The kinds of result that a program's cases come to, the last of which is always sound."""
    kind, who = request.param
    ready(kind, who)

    def run(solution: str, *cases: str, limits: ProgramLimits = LIMITS) -> list[str]:
        program = Program(SOUND + solution, (*({"code": case} for case in cases), GOOD))
        done = examine(program, limits, kind, who)
        assert not done.failure, done.failure
        assert done.cases[-1].kind == "passed", done
        return [case.kind for case in done.cases[:-1]]

    return run


def test_an_endless_loop_ends(kinds):
    assert kinds("def f():\n    while True: pass\n", "f()") == ["timeout"]


def test_a_program_that_waits_for_ever_ends(kinds):
    limits = ProgramLimits(cpu=20, seconds=1.5, total=60)
    assert kinds("import time\ndef f():\n    time.sleep(1000)\n", "f()", limits=limits) == ["timeout"]


def test_a_fork_bomb_goes_off_alone_and_nothing_of_it_is_left(kinds):
    name = f"b{secrets.token_hex(5)}"
    bomb = (
        "import os\ndef f(name):\n    open('/proc/self/comm', 'w').write(name)\n"
        "    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass\n"
    )
    assert kinds(bomb, f"f({name!r})")[0] in {"timeout", "processes"}
    assert not [p for p in Path("/proc").glob("[0-9]*/comm") if _text(p).strip() == name]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_ten_gigabytes_are_refused(kinds):
    assert kinds("def f():\n    return len(bytearray(10 << 30))\n", "f()") == ["memory"]


def test_memory_of_many_processes_counts_together(kinds):
    many = (
        "import os, time\ndef f():\n    for _ in range(6):\n        if not os.fork():\n"
        "            held = bytearray(100 << 20)\n            time.sleep(100)\n    time.sleep(100)\n"
    )
    assert kinds(many, "f()", limits=ProgramLimits(cpu=20, memory=256 << 20)) == ["memory"]


def test_memory_that_nobody_counts_is_not_given_out(kinds):
    uncounted = (
        "import os\ndef f():\n    try:\n        fd = os.memfd_create('x')\n    except OSError:\n        return 0\n"
        "    return os.write(fd, bytes(1 << 20))\n"
    )
    assert kinds(uncounted, "assert f() == 0") == ["passed"]


def test_credentials_and_the_ledger_are_out_of_sight(kinds, tmp_path, monkeypatch):
    secret = secrets.token_hex(8)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("HF_TOKEN", secret)
    ledger = tmp_path / "run.json"
    ledger.write_text(secret)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    look = (
        "import os, glob\ndef f(path):\n    seen = [repr(dict(os.environ))]\n"
        "    for name in [path, *glob.glob('/proc/*/environ'), *glob.glob('/proc/*/cmdline'),"
        " *glob.glob('/home/*/.aws/*'), *glob.glob('/root/.aws/*')]:\n"
        "        try:\n            seen.append(open(name, errors='replace').read())\n        except OSError:\n"
        "            pass\n    return ''.join(seen) + str(os.path.exists(path))\n"
    )
    # the test's own text holds no secret, which is in the machine's environment and in the ledger alone
    half = len(secret) // 2
    asked = f"assert {secret[:half]!r} + {secret[half:]!r} not in f({str(ledger)!r})"
    assert kinds(look, asked, f"assert f({str(ledger)!r}).endswith('False')") == ["passed", "passed"]


def test_there_is_no_network(kinds):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        call = (
            "import socket\ndef f(port):\n    try:\n        socket.create_connection(('127.0.0.1', port), 2)\n"
            "    except OSError:\n        return 'refused'\n"
        )
        assert kinds(call, f"assert f({port}) == 'refused'") == ["passed"]
        with pytest.raises(BlockingIOError):
            server.accept()


def test_nothing_is_written_outside(kinds, tmp_path):
    tmp_path.chmod(0o777)
    write = (
        "import os\ndef f(folders):\n    written = []\n    for folder in folders:\n        try:\n"
        "            os.makedirs(folder, exist_ok=True)\n            open(folder + '/mark', 'w').write('x')\n"
        "            written.append(folder)\n        except OSError:\n            pass\n    return written\n"
    )
    folders = ["/", "/usr", "/etc", "/sandbox", "/sandbox/seal_ray/sandbox/inside", "/dev", "/proc", "/proc/1", "/root"]
    assert kinds(write, f"assert f({folders!r}) == []", f"f([{str(tmp_path)!r}])") == ["passed", "passed"]
    assert not list(tmp_path.iterdir())


def test_files_fill_no_more_than_what_is_given(kinds):
    fill = (
        "import os\ndef f():\n    total = 0\n    for number in range(100):\n        try:\n"
        "            with open(f'/tmp/{number}', 'wb', buffering=0) as file:\n"
        "                total += file.write(bytes(1 << 20))\n        except OSError:\n            pass\n"
        "    return total\n"
    )
    assert kinds(fill, f"assert f() <= {LIMITS.disk}") == ["passed"]


def test_files_without_number_end_the_program(kinds):
    many = (
        "import os\ndef f():\n    number = 0\n    while True:\n        try:\n"
        "            open(f'/tmp/{number}', 'w').close()\n"
        "        except OSError:\n            return number\n        number += 1\n"
    )
    assert kinds(many, "assert f() <= 1000", limits=ProgramLimits(cpu=20)) in (["passed"], ["output"])


def test_a_flood_of_output_ends_the_program(kinds):
    assert kinds("def f():\n    while True: print('x' * 4000)\n", "f()") == ["output"]


def test_a_value_without_end_ends_the_program(kinds):
    assert kinds("def f():\n    return 'x' * 4_000_000\n", "f()") == ["output"]


def test_signals_reach_nobody(kinds):
    shoot = (
        "import os, signal\ndef f():\n    for pid in (1, os.getppid()):\n"
        "        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGALRM):\n"
        "            os.kill(pid, number)\n    return os.getpgid(0)\n"
        "def everybody():\n    try:\n        os.kill(-1, signal.SIGKILL)\n    except ProcessLookupError:\n"
        "        return 'still here'\n"
    )
    assert kinds(shoot, "f()", "assert everybody() == 'still here'") == ["passed", "passed"]


def test_output_that_pretends_to_be_the_harness_is_not_heard(kinds):
    lie = (
        "import json, os\ndef f():\n    said = json.dumps({'nonce': '0', 'cases': [['passed', '']] * 2}) + '\\n'\n"
        "    print(said, flush=True)\n    for fd in range(64):\n        try:\n            os.write(fd, said.encode())\n"
        "        except OSError:\n            pass\n    os._exit(0)\n"
    )
    assert kinds(lie, "assert f() == 1") == ["died"]


def test_a_reply_that_is_made_up_is_a_value_and_no_verdict(kinds):
    lie = (
        'import os\ndef f():\n    os.write(4, b\'{"value": true, "changed": []}\\n\')\n'
        "class Yes:\n    def __eq__(self, other): return True\ndef g(): return Yes()\n"
    )
    assert kinds(lie, "assert f() == 5", "assert g() == 5") == ["died", "wrong"]


def test_a_solution_does_not_see_its_tests(kinds):
    look = (
        "import gc, glob, sys\ndef f():\n    frame, seen = sys._getframe(), []\n    while frame:\n"
        "        seen.append(repr(frame.f_locals) + repr(frame.f_code.co_consts))\n        frame = frame.f_back\n"
        "    seen += [o for o in gc.get_objects() if isinstance(o, str)]\n"
        "    for name in [p for g in ('/proc/1/*', '/proc/1/fd/*', '/sandbox/*/*/*/*') for p in glob.glob(g)]:\n"
        "        try:\n            seen.append(open(name, 'rb').read(1 << 20).decode('latin1'))\n"
        "        except (OSError, ValueError):\n            pass\n"
        "    try:\n        memory = open('/proc/1/mem', 'rb')\n    except OSError:\n        return ''.join(seen)\n"
        "    return 'memory ' + ''.join(seen)\n"
    )
    limits = ProgramLimits(cpu=20, output=20 << 20)
    word = "marma" + "lade"
    assert kinds(look, f"assert '{word}'[::-1][::-1] not in f(), 'seen'", limits=limits) == ["passed"]
    assert kinds(look, "assert not f().startswith('memory')", limits=limits) == ["passed"]


def test_no_way_leads_out_by_system_calls(kinds):
    climb = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef f():\n    return [\n"
        "        libc.unshare(0x10000000), libc.mount(b'x', b'/tmp', b'tmpfs', 0, None), libc.ptrace(16, 1, 0, 0),\n"
        "        libc.chroot(b'/tmp'), libc.setns(0, 0), libc.syscall(310, 1, 0, 0, 0, 0, 0)]\n"
        "def who():\n    try:\n        os.setuid(0)\n    except OSError:\n        return os.getuid()\n    return 0\n"
    )
    assert kinds(climb, "assert f() == [-1] * 6", "assert who() == 65534") == ["passed", "passed"]


def test_whoever_watches_can_be_neither_limited_nor_slowed_down(kinds):
    """A watcher without memory or time would leave the program without limits, or its tests without a verdict."""
    reach = (
        "import os, resource\ndef f():\n    done, idle = [], os.sched_param(0)\n"
        "    for act in [lambda k=k: resource.prlimit(1, k, (0, 0)) for k in range(resource.RLIM_NLIMITS)] + [\n"
        "        lambda: os.setpriority(os.PRIO_PROCESS, 1, 19), lambda: os.setpriority(os.PRIO_USER, 0, 19),\n"
        "        lambda: os.sched_setscheduler(1, os.SCHED_IDLE, idle), lambda: os.sched_setaffinity(1, [0])]:\n"
        "        try:\n            act()\n            done.append(True)\n        except PermissionError:\n"
        "            pass\n    return len(done)\n"
        "def own():\n    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
    ).replace("resource.RLIM_NLIMITS", "16")
    assert kinds(reach, "assert f() == 0", "assert own() == 20") == ["passed", "passed"]


def test_names_of_pythons_own_stay_pythons_in_tests(kinds):
    """A program that brings a `sorted` of its own answers for no test."""
    lenient = "def all(_): return True\ndef sorted(x): return [1, 2]\nlen = 3\ndef f(x): return [9]\n"
    tests = ("assert all(x == 1 for x in f(0))", "assert sorted(f(0)) == [1, 2]", "assert len(f(0)) == 3")
    assert kinds(lenient, *tests) == ["wrong"] * 3


# what is no attack


@pytest.fixture(scope="module")
def isolation() -> Isolation:
    try:
        return choose()
    except NoIsolation as none:
        pytest.skip(str(none))


def results(isolation: Isolation, solution: str, *cases: dict, limits: ProgramLimits = LIMITS, **words: Any):
    done = run_program(Program(solution, cases, **words), limits, isolation)
    assert not done.failure
    return [case.kind for case in done.cases]


def test_values_pass_whole_between_a_test_and_a_solution(isolation):
    values = [0, -5, 2**70, 1.5, float("inf"), 1 + 2j, "é\n", b"\0\xff", None, True, [1, (2, {3})], {(1, 2): [None]}]
    codes = [
        {"code": f"v = {v!r}; w = same(v); assert w == v and type(w) is type(v)"} for v in values if v != values[4]
    ]
    more = [
        {"code": "assert same(float('inf')) == float('inf') and same(float('nan')) != same(0)"},
        {"code": "assert list(evens(6)) == [0, 2, 4] and same(range(3)) == range(3)"},
        {"code": "l = [3, 1]; assert sort(l) is None and l == [1, 3]"},
        {"code": "p = Pair(1, 2); assert total([p, Pair(3, 4)]) == 10 and LIMIT == 7"},
        {"code": "try:\n    same()\n    assert False\nexcept TypeError:\n    pass"},
        {"args": [[1, 2]], "expected": [1, 2]},
        {"args": [{"a": 0.1}], "expected": {"a": 0.1}},
    ]
    solution = (
        "def same(x): return x\ndef evens(n): return (i for i in range(0, n, 2))\ndef sort(l): l.sort()\nLIMIT = 7\n"
        "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
        "def total(pairs): return sum(p.a + p.b for p in pairs)\n"
    )
    assert results(isolation, solution, *codes, *more, entry="same") == ["passed"] * (len(codes) + len(more))


def test_each_way_to_be_wrong_has_its_name(isolation):
    case = {"code": "assert f(2) == 4"}
    for solution, kind in (
        ("def f(x) return x", "syntax_error"),
        ("def f(x): return x\n", "wrong"),
        ("def f(x): return 1 / 0\n", "raised"),
        ("raise SystemExit(0)\n", "raised"),
        ("def f(x):\n    import os\n    os.close(4); os._exit(0)\n", "died"),
        ("", "raised"),
        ("while True: pass\n", "timeout"),
        ("x = [0] * (10 << 30)\ndef f(x): return 4\n", "memory"),
    ):
        assert results(isolation, solution, case) == [kind], solution
    assert results(isolation, "def f(x): return x\n", {"code": "assert f(lambda: 1) == 1"}) == ["unsupported"]
    assert results(isolation, "def g(x): return x\n", {"args": [1], "expected": 1}, entry="f") == ["wrong"]


@pytest.mark.parametrize(
    "test",
    ["while True: pass", "assert add(1", "import no_such_module", "1 / 0", "assert False", "x = '\0'"],
)
def test_a_test_that_is_at_fault_by_itself_says_nothing_of_the_program(isolation, test):
    assert results(isolation, SOUND, {"code": test}, GOOD, limits=LIMITS) == ["broken_test", "passed"]
    broken_setup = results(isolation, SOUND, GOOD, setup=test)
    assert broken_setup == ["broken_test"]


def test_no_program_gets_rid_of_a_test_by_breaking_it(isolation):
    """What a test does after it has asked the program, or with the program's own values, is the program's."""
    hanging = {"code": "n = f(2)\nwhile n != 4: pass"}
    patient = ProgramLimits(cpu=1.0, seconds=20)
    for solution, case, kind in (
        ("def f(x): return 5\n", hanging, "timeout"),
        ("def f(x): return 'x'\n", {"code": "assert f(2) + 1 == 5"}, "raised"),
        ("N = 0\ndef f(x): return 4\n", {"code": "while not N: pass\nassert f(2) == 4"}, "timeout"),
        ("N = 0\ndef f(x): return 4\n", {"code": "def check():\n    assert f(2) / N == 4\ncheck()"}, "raised"),
        ("range = 5\ndef f(x): return 4\n", {"code": "for x in range(3):\n    assert f(x) == 0"}, "wrong"),
        ("def g(x): return 4\n", {"code": "assert f(2) == 4"}, "raised"),
    ):
        assert results(isolation, solution, case, limits=patient) == [kind], solution


def test_names_that_were_made_up_break_no_test(isolation):
    """The solution's process may say that it has any names at all."""
    forged = (
        "import json, os, time\nos.write(4, json.dumps([1, {'called': ['__builtins__', 'sorted', 'f'], "
        "'plain': {'__builtins__': {'d': []}}}]).encode() + b'\\n')\ntime.sleep(100)\n"
    )
    cases = [{"code": "assert sorted([2, 1]) == [1, 2]"}, {"code": "assert f(0) == 1"}]
    done = run_program(Program(forged, tuple(cases)), ProgramLimits(seconds=2), isolation)
    untouched, asks = done.cases
    # `sorted` is still Python's: its case comes to its end, without having asked the solution
    assert untouched.kind == "broken_test" and untouched.message.startswith("it passes")
    assert asks.kind == "timeout"


def test_a_task_may_ask_for_a_function_of_a_name_that_python_has(isolation):
    case = {"code": "assert sum(2, 3) == 6"}
    solution = "def sum(a, b): return a * b\n"
    assert results(isolation, solution, case) == ["broken_test"], "by itself it calls Python's own, and fails"
    assert results(isolation, solution, case, redefines=("sum",)) == ["passed"]
    assert results(isolation, solution, case, entry="sum") == ["passed"]


def test_tests_that_do_not_end_are_the_tests_fault(isolation, monkeypatch):
    limits = ProgramLimits(seconds=3, total=0.5)  # in which an interpreter starts on a busy machine too
    asleep = {"code": "import time\ntime.sleep(1000)"}
    assert results(isolation, SOUND, asleep, limits=limits) == ["broken_test"]
    monkeypatch.setattr(runner, "GRACE", 0.5)
    began = time.monotonic()
    done = run_program(Program(SOUND, ({"code": "9 ** 9 ** 9"},)), limits, isolation)
    assert done.failure and done.failure.kind == "tests_hang" and done.failure.blame == "data"
    assert time.monotonic() - began < 60


def test_the_same_program_gives_the_same_each_time(isolation):
    case = {"code": "raise ValueError(repr(f()))"}
    program = Program("def f(): return list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})\n", (case,))
    assert len({run_program(program, LIMITS, isolation).cases[0].message for _ in range(3)}) == 1


def test_where_nothing_keeps_programs_apart_none_is_run_unless_that_is_asked_for():
    code = (
        "from seal_ray.errors import NoIsolation\n"
        "from seal_ray.sandbox import Program, ProgramLimits, choose, run_program\n"
        "from seal_ray.sandbox.inside import calls, seccomp\n"
        "calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)\n"
        "seccomp.install()\n"  # as a container's own profile: no unshare, no mount
        "try:\n    choose()\nexcept NoIsolation as error:\n    print(error)\n"
        "loop = Program('def f():\\n    while True: pass\\n', ({'code': 'f()'},))\n"
        "print([c.kind for c in run_program(loop, ProgramLimits(cpu=0.3), choose('none')).cases])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    refused, allowed = done.stdout.strip().splitlines()
    assert "can't be kept apart on this machine" in refused and "domain.isolation: none" in refused
    assert allowed == "['timeout']"


def test_without_isolation_limits_hold_and_nothing_is_left():
    none = Isolation("none")
    assert results(none, SOUND, GOOD) == ["passed"]
    assert results(none, "def f(): return len(bytearray(10 << 30))\n", {"code": "f()"}) == ["memory"]
    name = f"n{secrets.token_hex(5)}"
    fork = (
        "import os, time\ndef f(name):\n    open('/proc/self/comm', 'w').write(name)\n    os.fork(); time.sleep(100)\n"
    )
    limits = ProgramLimits(seconds=1.5)
    assert results(none, fork, {"code": f"f({name!r})"}, limits=limits) == ["timeout"]
    assert not [p for p in Path("/proc").glob("[0-9]*/comm") if _text(p).strip() == name]

"""Configurations as somebody might write them who is careless, or means harm; each from a seed."""

import random
from pathlib import Path

from seal_ray import config_file

ROOT = Path(__file__).parents[2]
SOUND = [config_file.template(), *(p.read_text() for p in sorted((ROOT / "jobs").glob("*.yaml")))]

VALUES = [
    ".nan", ".inf", "-.inf", "1e999", "-1", "0", "1", "1e308", "9" * 30, "9" * 5000, "0x" + "f" * 4000, "0b", "0o9",
    "1:30",
    "2001-13-45", "2001-12-14t21:59:43.10-05:00", "!!binary aGk=", "!!set {a, b}", "!!python/object:os.system {}",
    "!!int x", "!!float x", "!!bool maybe", "!!timestamp x", "!!omap [a: 1]", "!own {a: 1}", "null", "~", "",
    "true", "no",
    "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "[" * 60 + "]" * 60, "&a [*a]", "*a", "&a {b: *a}", "{<<: {rank: 3}}",
    "<<",
    "? [1]", "{[1]: 2}", "{1: 2}", "{null: 1}", "'\\u0000'", '"\\0"', '"\\uD800"', '"\\x1b[31m"', "'é'", '"\\u202e"',
    "'''", '"', "|", ">", "%", "@", "`", "- 1", "a: b: c", "# nothing", "/dev/null", "/", "..", "s3://", "s3://b",
    "http://[::1", "http://u:p@h/", "hf:", "hf:a@b#c", "zip://a", "file:///etc/passwd", "builtin:tiny",
    "builtin:none",
    "C:\\x", "a" * 3000, "knowledge", "arc", "plugin", "[knowledge]", "{name: arc}", "{name: [arc]}",
    "{name: {a: 1}}",
    "lexical", "judge", "cascade", "exact", "mixture", "template", "0.5", "1", "2", "7", "1000000000000000000000",
    "1e17",
]  # fmt: skip
KEYS = [
    "rank",
    "naem",
    "options",
    "<<",
    "null",
    "1",
    "true",
    "'é'",
    "a.b",
    "run",
    "model",
    "budget",
    "_plain",
    "model_config",
]
RAW = [
    "\x00", "\ufeff", "\x85", "\u2028", "\t", "---\n", "...\n", "%YAML 9.9\n", "%TAG ! x\n", "{", "}", "[", "]",
    ": ", "- ",
    "\r", "\ud800", "\U0010ffff", "*", "&", "!", "|\n", ">\n", "'", '"', "#", "\\", "\x1b]52;c;aGk=\x07", " " * 500,
]  # fmt: skip


def mutated(draw: random.Random) -> str:
    """One of the sound configurations after a few changes."""
    lines = draw.choice(SOUND).splitlines()
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        key, colon, _ = line.partition(":")
        match draw.randrange(9):
            case 0 | 1 | 2 | 3 if colon:
                lines[at] = f"{key}: {draw.choice(VALUES)}"
            case 4:
                lines.insert(at, line)
            case 5:
                del lines[at : at + draw.randrange(1, 4)]
            case 6:
                indent = " " * (len(line) - len(line.lstrip()))
                lines.insert(at, f"{indent}{draw.choice(KEYS)}: {draw.choice(VALUES)}")
            case 7:
                where = draw.randrange(len(line) + 1)
                lines[at : at + 1] = [line[:where] + draw.choice(RAW) + line[where:]]
            case _:
                lines[at : at + 1] = [draw.choice(["  ", " ", "\t", ""]) + line.lstrip()]
    return "\n".join(lines) + "\n"


def overrides(draw: random.Random) -> list[str]:
    """What might stand after `--set`."""
    keys = [
        "inner.rank", "run", "run.uri", "domain", "domain.name", "domain.data", "domain.options.a",
        "domain.mixture.long",
        "grading.judge_url", "grading.judge_key_env", "model.name", "inner.targets", "a.b.c", "..", "", "run.budget",
        "run.budget.hours", "storage.endpoint", "observe.progress", "placement.worker_gpus", "sampling.top_p",
    ]  # fmt: skip
    return [f"{draw.choice(keys)}={draw.choice(VALUES)}" for _ in range(draw.randrange(3))]


# whole texts that have gone wrong before, or could
WHOLE = {
    "nothing": "",
    "a list": "[]",
    "false": "false",
    "a word": "run",
    "a number": "0",
    "two documents": "run: {}\n---\nrun: {}\n",
    "a key twice": "inner:\n  rank: 64\n  rank: 32\n",
    "a section twice": "inner: {rank: 64}\ninner: {rank: 32}\n",
    "a date": "run: {uri: 2001-13-45}\n",
    "a long number": "run: {seed: " + "9" * 5000 + "}\n",
    "a recursive anchor": "run: &a {budget: *a}\n",
    "a recursive list": "inner: {targets: &a [*a]}\n",
    "an alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "a bomb of options": "domain:\n  name: x\n  options:\n    a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"    {c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "unknown keys": "".join(f"key{n}: 1\n" for n in range(10_000)),
    "unknown keys of a section": "inner:\n" + "".join(f"  rnak{n}: 1\n" for n in range(10_000)),
    "too many keys": "".join(f"key{n}: 1\n" for n in range(80_000)),
    "deep lists": "[" * 400_000,  # the parser in C ends the process
    "deep maps": "{a: " * 200_000,
    "deep keys": "? " * 20_000,
    "deep items": "- " * 20_000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(500)),
    "a null character": "run: {uri: 'a\x00b'}\n",
    "half a pair": "run: {uri: \"\\uD800\"}\n",
    "raw half a pair": "run: {uri: '\ud800'}\n",
    "an escape": 'run: {uri: "a\\x1b]0;title\\x07"}\n',
    "a tag": "run: !!python/object/apply:os.system ['true']\n",
    "bytes": "run: {uri: !!binary aGVsbG8=}\n",
    "options of all kinds": "domain: {name: x, options: {a: 2001-12-14, b: !!set {c}, d: .nan, e: !!binary aGk=}}\n",
}  # fmt: skip

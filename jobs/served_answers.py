"""Does what is served know more than its base? The held-out questions of `seal-ray adapt`, asked over HTTP.

    python jobs/served_answers.py my-adapter

Starts vLLM's own server with the adapter (as `seal-ray serve` does), asks base and adapter every question that chose
nothing, closed book, and prints the share of right answers of each with the interval of a paired bootstrap.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seal_ray.commands import ask, serve
from seal_ray.commands.served import BASE, Served, find
from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.grading import lexical
from seal_ray.header_keys import key_in

LEARNED = "learned.json"
SAMPLES, CONFIDENCE = 10_000, 0.9
TOKENS = 16  # of an answer


@dataclass(frozen=True)
class HeldOut:
    title: str
    question: str
    gold: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """One question as both have answered it."""

    question: str
    gold: str
    base: str
    adapted: str
    right: tuple[bool, bool]  # base, adapted


def held_out(folder: Path) -> list[HeldOut]:
    """The questions that no edit was chosen by."""
    listed: Any = json.loads((folder / LEARNED).read_text(encoding="utf-8"))["questions"]
    kept = [HeldOut(q.get("title", ""), q["question"], tuple(q["gold"])) for q in listed if q["held_out"]]
    if not kept:
        raise ConfigError(f"{folder} has no held-out questions", hint="adapt with a larger probe.held_out")
    return kept


def compare(url: str, key: str, served: Served, asked: Sequence[HeldOut]) -> list[Asked]:
    """Every question to both, one request each."""
    (adapted,) = served.adapters
    rows = []
    for one in asked:
        said = ask.ask_server(url, key, served, one.question, topic=one.title, max_tokens=TOKENS).answers
        base, own = (any(lexical.correct(one.question, g, said[name]) for g in one.gold) for name in (BASE, adapted))
        rows.append(Asked(one.question, one.gold[0], said[BASE], said[adapted], (base, own)))
    return rows


def figures(rows: Sequence[Asked], seed: int = 1) -> dict[str, float | int]:
    right = np.array([row.right for row in rows], dtype=float)
    gains = right[:, 1] - right[:, 0]
    drawn = np.random.default_rng(seed).integers(0, len(gains), (SAMPLES, len(gains)))
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(gains[drawn].mean(axis=1), [edge, 1 - edge])
    means = {"base": right[:, 0].mean(), "adapted": right[:, 1].mean(), "gain": gains.mean(), "low": low, "high": high}
    return {"questions": len(rows)} | {name: round(float(value), 4) for name, value in means.items()}


def shown(rows: Sequence[Asked], told: Mapping[str, float]) -> list[str]:
    lines = [f"{'✓' if r.right[1] else '·'} {r.question} ({r.gold})   {r.base!r} → {r.adapted!r}" for r in rows]
    return [
        *lines,
        f"{told['questions']} held-out questions over HTTP: {told['base']:.0%} → {told['adapted']:.0%} right, "
        f"{100 * told['gain']:+.0f} points ({100 * told['low']:+.0f} to {100 * told['high']:+.0f}, {CONFIDENCE:.0%})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="held-out questions to a served adapter and its base")
    parser.add_argument("folder", type=Path, help="what `seal-ray adapt --to` wrote")
    parser.add_argument("--port", type=int, default=8731)
    parser.add_argument("--to", type=Path, help="also write answers and figures there, as JSON")
    given = parser.parse_args()
    asked, settings = held_out(given.folder), serve.ServeSettings(port=given.port)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as scratch:
        served = find(str(given.folder), StorageSection(), scratch)
        with serve.running(served, settings) as server:
            for name, folder in served.adapters.items():
                server.load(name, folder)
            rows = compare(f"http://127.0.0.1:{given.port}/v1", key_in(serve.KEY), served, asked)
    told = figures(rows)
    print(*shown(rows, told), sep="\n")
    if given.to:
        given.to.write_text(json.dumps({"figures": told, "answers": [asdict(r) for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

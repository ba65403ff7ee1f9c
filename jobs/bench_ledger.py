"""How long a large round keeps a driver waiting: recording, opening again, committing, on a disk and on an S3 endpoint.

    python jobs/bench_ledger.py [--candidates 10000] [--rate 0] [--uri s3://bucket/path] [--json]

Without --uri it measures a temporary folder and, where moto is installed, a local S3 server over HTTP.
"""

import argparse
import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.records import (
    Answer,
    Candidate,
    Cost,
    Edit,
    Likelihood,
    Recipe,
    Trial,
    Verdict,
    derive_seed,
    digest,
)
from seal_ray.storage.codec import text
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

EDITS, REPEATS, QUESTIONS, GOLDS = 5, 3, 5, 3


def a_round(candidates: int) -> Iterator[tuple[str, Any]]:
    """What a round on passages records, in the sizes that real ones have."""
    recipe = Recipe()
    tasks = -(-candidates // (EDITS * REPEATS))
    made = 0
    for t in range(tasks):
        task = f"passage-{t:05d}"
        for slot in range(EDITS):
            edit = digest([task, slot])[:32]
            ids = tuple(derive_seed(edit, i) % 150_000 for i in range(180))
            logprobs = tuple(-(i % 97) / 31 for i in range(180))
            words = "Implication: the passage says so. " * 20
            yield "edits", Edit(edit, task, slot, "v0", t, tuple(range(300)), ids, logprobs, words, "stop", words)
            for repeat in range(REPEATS):
                if made == candidates:
                    return
                made += 1
                name = digest([edit, repeat])[:32]
                asked = [f"{task}-q{q}" for q in range(QUESTIONS)]
                answers = tuple(Answer(q, " the answer that it gave", 7, "stop", -3.25) for q in asked)
                golds = tuple(Likelihood(q, g, -4.5 - g, 3) for q in asked for g in range(GOLDS))
                losses = tuple(2.5 - i / 100 for i in range(60))
                yield "candidates", Candidate(name, task, "edit", edit, slot, repeat, repeat, recipe)
                yield "trials", Trial(name, task, losses, answers, golds, Cost(1.5, 1.0, 0.5, 400, 60), "worker-1")
                yield from (("verdicts", Verdict(name, q, "lexical", True, 1.0)) for q in asked)


def measure(uri: str, settings: StorageSection, candidates: int, rate: float) -> dict[str, Any]:
    out = written(uri, settings, candidates, rate)
    gc.collect()
    return out | read_back(uri, settings, candidates)


def written(uri: str, settings: StorageSection, candidates: int, rate: float) -> dict[str, Any]:
    """What it takes to record a round."""
    work = list(a_round(candidates))
    ledger = Ledger(uri, settings)
    ledger.create({"bench": candidates}, {}, 0)
    ledger.acquire("bench")
    part = ledger.round(1)
    held: list[float] = []
    gc.collect()
    gc.disable()  # a collection over the benchmark's own records would be counted as the ledger's time
    began = time.perf_counter()
    for kind, record in work:
        before = time.perf_counter()
        part.append(kind, record)
        after = time.perf_counter()
        if kind == "trials":
            held.append((after - before) * 1000)
            if rate:
                time.sleep(max(0.0, began + len(held) / rate - after))
    recorded = time.perf_counter()
    part.flush()
    safe = time.perf_counter()
    # the same encoding without a ledger: what of the longest times is this machine's scheduling
    alone = sorted(_seconds(lambda r=record: text(r)) * 1000 for kind, record in work if kind == "trials")
    gc.enable()
    ledger.release()
    held.sort()
    return {
        "uri": uri.partition("://")[0] if "://" in uri else "local disk",
        "candidates": candidates,
        "record_seconds": recorded - began,
        "flush_seconds": safe - recorded,
        "append_ms_p50": held[len(held) // 2],
        "append_ms_p99": held[int(len(held) * 0.99)],
        "append_ms_p999": held[int(len(held) * 0.999)],
        "append_ms_max": held[-1],
        "appends_over_2ms": sum(1 for h in held if h > 2),
        "encoding_alone_ms_max": alone[-1],
        "encodings_over_2ms": sum(1 for a in alone if a > 2),
    }


def read_back(uri: str, settings: StorageSection, candidates: int) -> dict[str, float]:
    """What it takes to go on with that round, to commit it, and to read it afterwards."""

    def opened(ledger: Ledger) -> dict[str, int]:
        part = ledger.round(1)
        ledger.run()
        return {kind: len(part.records(kind)) for kind in ("edits", "candidates", "trials", "verdicts")}

    out: dict[str, float] = {}
    before = time.perf_counter()
    ledger = Ledger(uri, settings)
    ledger.latest()
    ledger.acquire("bench again")
    counts = opened(ledger)
    out["open_seconds"] = time.perf_counter() - before
    before = time.perf_counter()
    ledger.round(1).commit({"round": 1})
    out["commit_seconds"] = time.perf_counter() - before
    out["parts"] = len((ledger.manifest(1) or {})["parts"])
    ledger.release()
    before = time.perf_counter()
    assert opened(Ledger(uri, settings, read_only=True)) == counts
    out["read_committed_seconds"] = time.perf_counter() - before
    assert counts["trials"] == candidates, counts
    before = time.perf_counter()
    assert verify(Ledger(uri, settings, read_only=True)) == []
    out["verify_seconds"] = time.perf_counter() - before
    return out


def _seconds(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """An S3 server of its own process on this machine."""
    script = (
        "import logging, sys; logging.getLogger('werkzeug').setLevel(logging.ERROR)\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout and process.stdin
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


def places(uri: str, endpoint: str) -> Iterator[tuple[str, StorageSection]]:
    if uri:
        yield f"{uri.rstrip('/')}/bench-{uuid.uuid4().hex[:8]}", StorageSection(endpoint=endpoint)
        return
    folder = tempfile.mkdtemp(prefix="bench-ledger-")
    try:
        yield folder, StorageSection()
    finally:
        shutil.rmtree(folder)
    try:
        import moto  # noqa: F401
    except ImportError:
        return
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update({k: os.environ.get(k, v) for k, v in keys.items()})
    with moto_server() as endpoint:
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bench-ledger", method="PUT"), timeout=30).close()
        yield "s3://bench-ledger/run", StorageSection(endpoint=endpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0, help="trials per second; 0: as fast as the ledger takes them")
    parser.add_argument("--uri", default="", help="measure there instead")
    parser.add_argument("--endpoint", default="", help="URL of an S3 look-alike")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for uri, settings in places(options.uri, options.endpoint):
        found = measure(uri, settings, options.candidates, options.rate)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        print(f"\n{found.pop('uri')}: {found.pop('candidates')} candidates")
        for name, value in found.items():
            print(f"  {name:<24}{value:>10.3f}" if isinstance(value, float) else f"  {name:<24}{value:>10}")


if __name__ == "__main__":
    main()

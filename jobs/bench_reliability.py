"""How reliable accuracy, likelihood and their blend are as rewards, from real trials of a small model.

    python jobs/bench_reliability.py --model FOLDER --data published_edits_dev.json     again: goes on
    python jobs/bench_reliability.py --report                                           what was found so far

Twelve passages with four published edits each (one of them empty: the passage alone) and three training seeds, all
linear layers; accuracy and likelihood come from the same trials. Trials are kept, passage by passage, in --out.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seal_ray.config import AnsweringSection, GradingSection, KnowledgeDomain
from seal_ray.domains import knowledge
from seal_ray.grading.lexical import LexicalGrader
from seal_ray.grading.reward import RoundRewards, rewards
from seal_ray.records import (
    Ask,
    Attempt,
    Candidate,
    Edit,
    Json,
    Recipe,
    Task,
    Trial,
    Verdict,
    decode,
    derive_seed,
    digest,
    encode,
)

EDITS = ("naive", "base", "iter2", "gpt4_1")
MEASURES = ("accuracy", "likelihood", "blend")
REPEATS = 3
DRAWS = 10_000


def passages(path: Path, count: int) -> list[dict[str, Any]]:
    """So many passages with all edits, of different titles as far as there are, in a seeded order."""
    found = [p for p in json.loads(path.read_text()) if set(EDITS) <= p["edits"].keys() and len(p["questions"]) >= 3]
    found.sort(key=lambda p: derive_seed("reliability", p["title"], p["context"]))
    turn: dict[str, int] = defaultdict(int)
    ordered = []
    for p in found:
        ordered.append((turn[p["title"]], p))
        turn[p["title"]] += 1
    return [p for _, p in sorted(ordered, key=lambda item: item[0])][:count]


def domain_of(chosen: Sequence[Json], recipe: Recipe, chat: bool) -> tuple[Any, list[Task]]:
    flat = [{k: p[k] for k in ("title", "context", "questions")} for p in chosen]
    section = KnowledgeDomain(data="passages", validation=0, test=0)
    made = knowledge.build(
        section,
        recipe=recipe,
        answering=AnsweringSection(),
        chat=chat,
        seed=0,
        read=lambda _: json.dumps(flat).encode(),
    )
    return made, list(made.tasks("train"))


def edits_of(task: Task, passage: Json) -> list[Edit]:
    return [
        Edit(f"{task.id}/{name}", task.id, slot, "published", 0, (), (), (), text, "stop", text or None)
        for slot, (name, text) in enumerate((name, passage["edits"][name]) for name in EDITS)
    ]


def attempts_of(made: Any, task: Task, edits: Sequence[Edit], tokenizer: Any) -> list[Attempt]:
    """The baseline and every edit with every seed; all edits of a repeat share its seed."""
    from seal_ray.models import render

    asks = []
    for q in made.questions(task):
        gold = [[*tokenizer.encode(q.lead + g, add_special_tokens=False), tokenizer.eos_token_id] for g in q.gold]
        asks.append(Ask(q.id, tuple(render(tokenizer, q.prompt)), tuple(map(tuple, gold)), q.max_tokens, q.stop))
    baseline = Candidate(f"{task.id}/base", task.id, "baseline", None, -1, 0, 0, None)
    attempts = [Attempt(baseline, (), tuple(asks))]
    for edit in edits:
        examples, recipe = made.training(task, edit.content, tokenizer)
        for repeat in range(REPEATS):
            seed = derive_seed(0, task.id, repeat, "train")
            candidate = Candidate(f"{edit.id}/{repeat}", task.id, "edit", edit.id, edit.slot, repeat, seed, recipe)
            attempts.append(Attempt(candidate, tuple(examples), tuple(asks)))
    return attempts


def run(arguments: argparse.Namespace, out: Path) -> None:
    """Try what has not been tried, one passage at a time; a passage that was begun is finished."""
    from seal_ray import models
    from seal_ray.trials.wave import try_wave

    tokenizer = models.tokenizer(arguments.model)
    chat = models.has_chat_template(arguments.model) if arguments.chat == "auto" else arguments.chat == "yes"
    chosen = passages(arguments.data, arguments.passages)
    recipe = replace(
        Recipe(), epochs=arguments.epochs, rank=arguments.rank, alpha=2.0 * arguments.rank, lr=arguments.lr
    )
    made, tasks = domain_of(chosen, recipe, chat)
    model = None
    began, longest = time.monotonic(), 0.0
    for passage, task in zip(chosen, tasks, strict=True):
        attempts = attempts_of(made, task, edits_of(task, passage), tokenizer)
        identity = digest([arguments.model.rstrip("/").split("/")[-1], chat, encode(attempts)])
        path = out / f"{task.id}.json"
        if path.exists() and json.loads(path.read_text())["identity"] == identity:
            continue
        if time.monotonic() - began + longest > 60 * arguments.minutes:
            print("the time is up; the same command goes on with the rest")
            return
        model = model or models.load(arguments.model, dtype=arguments.dtype)
        start = time.monotonic()
        trials = try_wave(model, tokenizer, attempts)
        longest = max(longest, time.monotonic() - start)
        verdicts = [v for t in trials for v in made.verdicts(task, t.candidate, t.answers, LexicalGrader())]
        kept = {
            "identity": identity,
            "candidates": encode([a.candidate for a in attempts]),
            "trials": encode(trials),
            "verdicts": encode(verdicts),
            "edits": encode(edits_of(task, passage)),
        }
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(kept))
        draft.replace(path)
        failed = sum(t.failure is not None for t in trials)
        seconds = time.monotonic() - start
        print(f"{task.id}: {len(trials)} trials in {seconds:.0f} s, {failed} failed, {_right(verdicts)}", flush=True)


def _right(verdicts: Sequence[Verdict]) -> str:
    base = [v.correct for v in verdicts if v.candidate.endswith("/base")]
    rest = [v.correct for v in verdicts if not v.candidate.endswith("/base")]
    return f"right before {sum(map(bool, base))} of {len(base)}, after {sum(map(bool, rest))} of {len(rest)}"


# what it came to


class Found:
    """Everything in the folder, and rewards of any part of it."""

    def __init__(self, out: Path) -> None:
        files = [json.loads(p.read_text()) for p in sorted(out.glob("*.json"))]
        self.tasks = len(files)
        self.edits = [decode(Edit, e) for f in files for e in f["edits"]]
        self.candidates = [decode(Candidate, c) for f in files for c in f["candidates"]]
        self.trials = [decode(Trial, t) for f in files for t in f["trials"]]
        self.verdicts = [decode(Verdict, v) for f in files for v in f["verdicts"]]

    def worth(self, measure: str, repeats: Sequence[int], without: str = "") -> RoundRewards:
        edits = [e for e in self.edits if not without or not e.id.endswith(f"/{without}")]
        names = {e.id for e in edits}
        kept = [c for c in self.candidates if c.edit is None or (c.edit in names and c.repeat in repeats)]
        section = GradingSection.model_validate({"reward": measure})
        return rewards(edits, kept, self.trials, self.verdicts, section=section)


def left_out(found: Found, measure: str, without: str) -> tuple[np.ndarray, np.ndarray]:
    """Choose by a measure on two repeats, all three ways. [task, way, (promised, fresh, mean edit's fresh)] in that
    measure's own terms; and [task, way, (chosen, mean edit)] accuracy on the fresh repeat."""
    own: dict[tuple[str, int], list[float]] = {}
    accurate: dict[tuple[str, int], list[float]] = {}
    for fresh in range(REPEATS):
        seen = found.worth(measure, [r for r in range(REPEATS) if r != fresh], without).rewards
        later = {r.edit: r for r in found.worth(measure, [fresh], without).rewards}
        for task in sorted({r.task for r in seen}):
            group = [r for r in seen if r.task == task and r.edit in later]
            if not group:
                continue
            best = max(group, key=lambda r: (r.raw.mean, r.likelihood.mean if r.likelihood else 0.0, r.edit))
            after = [later[r.edit] for r in group]
            own[task, fresh] = [best.raw.mean, later[best.edit].raw.mean, float(np.mean([r.raw.mean for r in after]))]
            right = [r.accuracy.mean for r in after if r.accuracy]
            chosen = later[best.edit].accuracy
            if chosen:
                accurate[task, fresh] = [chosen.mean, float(np.mean(right))]
    return _by_task(own), _by_task(accurate)


def _by_task(cells: dict[tuple[str, int], list[float]]) -> np.ndarray:
    tasks = sorted({task for task, _ in cells})
    return np.array([np.mean([v for (t, _), v in cells.items() if t == task], axis=0) for task in tasks])


def reliability_interval(found: Found, measure: str, without: str) -> tuple[float, float]:
    """95 % of a bootstrap over passages."""
    from seal_ray.grading.variance import components

    tables: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for repeat in range(REPEATS):
        for r in found.worth(measure, [repeat], without).rewards:
            tables[r.task][r.edit][repeat] = r.raw.mean
    names = sorted(tables)
    draws = np.random.default_rng(0).integers(0, len(names), (2000, len(names)))
    values = []
    for draw in draws:
        estimate = components([tables[names[i]] for i in draw])
        values.append(estimate.reliability() if estimate else 0.0)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def report(found: Found) -> None:
    failed = sum(t.failure is not None for t in found.trials)
    questions = len({v.question for v in found.verdicts})
    print(f"{found.tasks} passages, {questions} questions, {len(found.trials)} trials, {failed} failed")
    arms = found.worth("blend", range(REPEATS)).arms
    for name in ("accuracy", "likelihood"):
        cells = [f"{arm} {e.mean:.3f} ± {e.error:.3f}" for arm in ("base", "edit") if (e := arms[arm][name])]
        print(f"{name}: {', '.join(cells)}")
    for without, title in (("", "four edits, the passage alone among them"), ("naive", "the three written edits only")):
        print(f"\n{title}; chosen on two repeats, looked at on the third (mean of three ways)")
        print(
            f"{'chosen by':<12}{'reliability of 3 repeats':>32}{'promised':>10}{'fresh':>9}{'lost':>8}"
            f"{'mean edit':>11}{'accuracy, fresh':>17}{'mean edit':>11}"
        )
        for measure in MEASURES:
            value = found.worth(measure, range(REPEATS), without).reliability[measure]
            low, high = reliability_interval(found, measure, without)
            own, accurate = left_out(found, measure, without)
            promised, fresh, mean = own.mean(0)
            chosen, other = accurate.mean(0)
            shown = "-" if value is None else f"{value:.2f}"
            print(
                f"{measure:<12}{shown:>16} [{low:5.2f}, {high:5.2f}]{promised:>11.3f}{fresh:>9.3f}"
                f"{promised - fresh:>8.3f}{mean:>11.3f}{chosen:>17.3f}{other:>11.3f}"
            )
    print("\npromised, fresh and lost are gains over the baseline in the measure's own unit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder of the model")
    parser.add_argument("--data", type=Path, help="JSON: passages with questions and published edits")
    parser.add_argument("--out", type=Path, default=Path("runs/reliability"))
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--chat", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--report", action="store_true", help="only say what was found so far")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        if not arguments.model or not arguments.data:
            parser.error("give --model, the folder of a model, and --data, the file of passages and edits")
        run(arguments, arguments.out)
    found = Found(arguments.out)
    if found.tasks:
        report(found)


if __name__ == "__main__":
    main()

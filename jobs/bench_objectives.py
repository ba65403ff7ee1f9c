"""Ways to learn a passage, side by side: texts, answers, and distillation from a teacher that has read it.

    python jobs/bench_objectives.py run --data published_edits_dev.json     tries until --minutes are up; again: goes on
    python jobs/bench_objectives.py report                                  what was found so far

Each passage is learned in every way by one adapter a seed; all ways of a passage are trained as one wave. Edits are the
published ones and the model's own, which are written once and kept. Beside the passage's questions, asked closed book,
each adapter reads passages of other titles: what it has lost of them is what learning has cost. Trials are kept,
passage by passage, in --out.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench_reliability import passages

from seal_ray.config import AnsweringSection, KnowledgeDomain
from seal_ray.domains import knowledge
from seal_ray.domains.base import Rejected
from seal_ray.grading.lexical import LexicalGrader
from seal_ray.policy import bootstrap
from seal_ray.records import Ask, Attempt, Candidate, Failure, Json, Recipe, Task, Trial, derive_seed, digest, encode

STYLES = ("self_qa", "faithful_implications", "critical_questions")
SAMPLES = {"faithful_implications": 2, "critical_questions": 2}  # of the pair, as many samples as it lives on
EDIT_TOKENS = 160
KEPT_TOKENS = 100  # of each passage that has nothing to do with what is learned
KEPT = 2


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    edit: str  # none, context, published, or styles joined by +
    objective: str = "text"

    def __str__(self) -> str:
        return self.edit if self.edit in ("none", "context") else f"{self.edit}: {self.objective}"


PAIR = "faithful_implications+critical_questions"
WAYS = (
    Way("none"),
    Way("context"),
    Way("published"),
    Way("published", "distill"),
    Way("self_qa"),
    Way("self_qa", "answers"),
    Way("self_qa", "distill"),
    Way("self_qa", "distill_on_policy"),
    Way(PAIR),
)


class Study:
    """The passages, the model, and what is kept of both in a folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        from seal_ray import models
        from seal_ray.config import ModelSection

        self.args, self.out = args, args.out
        folder = models.fetch(ModelSection(name=args.model))
        self.tokenizer = models.tokenizer(folder)
        self.chat = models.has_chat_template(folder) and args.chat != "no"
        self.model: Any = models.load(folder, dtype=args.dtype)
        every = passages(args.data, 10_000)
        self.short = [p for p in every if len(p["context"]) <= args.longest]
        self.chosen = self.short[: args.passages]
        self.recipe = replace(
            Recipe(), epochs=args.epochs, rank=args.rank, alpha=2.0 * args.rank, lr=args.lr, answer_tokens=24
        )

    def domain(self, objective: str, style: str = "implications") -> tuple[Any, dict[str, Task]]:
        flat = [{k: p[k] for k in ("title", "context", "questions")} for p in self.chosen]
        settings: dict[str, Any] = {"style": style, "max_texts": self.args.texts}
        made = knowledge.build(
            KnowledgeDomain(data="passages", validation=0, test=0, max_questions=5, **settings),
            recipe=replace(self.recipe, objective=objective),  # type: ignore[arg-type]
            answering=AnsweringSection(max_tokens=24),
            chat=self.chat,
            seed=0,
            read=lambda _: json.dumps(flat).encode(),
        )
        return made, {t.data["context"]: t for t in made.tasks("train")}

    def written(self) -> dict[str, dict[str, list[str]]]:
        """The model's own texts by passage and style, written once, all at the same time."""
        path = self.out / "edits.json"
        if not path.exists():
            texts: dict[str, dict[str, list[str]]] = defaultdict(dict)
            for samples in sorted({SAMPLES.get(style, 1) for style in STYLES}):
                wanted = [
                    (passage["context"], style)
                    for passage in self.chosen
                    for style in STYLES
                    if SAMPLES.get(style, 1) == samples
                ]
                for (context, style), own in zip(wanted, self._write(wanted, samples), strict=True):
                    texts[context][style] = own
            path.write_text(json.dumps(texts))
        return json.loads(path.read_text())

    def _write(self, wanted: Sequence[tuple[str, str]], samples: int) -> list[list[str]]:
        from seal_ray.inner import Sampling, fit
        from seal_ray.inner.frozen import Frozen
        from seal_ray.models import render

        prompts = []
        for context, style in wanted:
            made, tasks = self.domain("text", style)
            prompts.append(render(self.tokenizer, made.edit_request(tasks[context], 0).prompt))
        bank = fit(self.model, [[]], [None], [1])
        sampling = Sampling(EDIT_TOKENS, temperature=0.7, samples=samples, eos_ids=Frozen(self.model).end_ids)
        answers = bank.answer([prompts], sampling)[0]
        return [[self.tokenizer.decode(s.ids, skip_special_tokens=True) for s in own] for own in answers]

    def attempts(self, passage: Json) -> tuple[list[Attempt], dict[str, Failure], dict[str, int]]:
        """Every way and seed that has something to train on; why the others have not; tokens written for each way."""
        own = self.written()[passage["context"]]
        others = [p for p in reversed(self.short) if p["title"] != passage["title"]][:KEPT]
        attempts, failures, written = [], {}, {}
        for way in WAYS:
            made, tasks = self.domain(way.objective)
            task = tasks[passage["context"]]
            content: Json = None
            if way.edit == "published":
                content = passage["edits"]["gpt4_1"]
            elif way.edit not in ("none", "context"):
                texts = [text for style in way.edit.split("+") for text in own[style]]
                parsed = [made.parse(task, text) for text in texts]
                content = [text for text in parsed if isinstance(text, str)] or ""
            written[str(way)] = sum(len(self.tokenizer(text)["input_ids"]) for text in _listed(content))
            asks = (*self._asks(made, task), *self._kept(others))
            try:
                examples, recipe = ((), None) if way.edit == "none" else made.training(task, content, self.tokenizer)
            except Rejected as rejected:
                failures[str(way)] = rejected.failure
                continue
            for repeat in range(1 if way.edit == "none" else self.args.repeats):
                seed = derive_seed(0, task.id, repeat, "train")
                candidate = Candidate(f"{way}/{repeat}", task.id, "edit", str(way), 0, repeat, seed, recipe)
                attempts.append(Attempt(candidate, tuple(examples), asks))
        return attempts, failures, written

    def _asks(self, made: Any, task: Task) -> list[Ask]:
        from seal_ray.models import render, text_ids

        end = self.tokenizer.eos_token_id
        return [
            Ask(
                q.id,
                tuple(render(self.tokenizer, q.prompt)),
                tuple((*text_ids(self.tokenizer, q.lead + gold), end) for gold in q.gold),
                q.max_tokens,
                q.stop,
            )
            for q in made.questions(task)
        ]

    def _kept(self, others: Sequence[Json]) -> list[Ask]:
        """Passages of other titles, whose likelihood is taken."""
        asks = []
        for number, other in enumerate(others):
            ids = tuple(self.tokenizer(other["context"])["input_ids"][:KEPT_TOKENS])
            prompt = tuple(self.tokenizer(other["title"] + "\n")["input_ids"])
            asks.append(Ask(f"kept/{number}", prompt, (ids,), 1))
        return asks

    def run(self) -> None:
        from seal_ray.trials.wave import try_wave

        began = time.monotonic()
        self.written()
        print(f"edits: {time.monotonic() - began:.0f} s", flush=True)
        for passage in self.chosen:
            path = self.out / f"passage-{digest(passage['context'])[:12]}.json"
            if path.exists():
                continue
            if time.monotonic() - began > 60 * self.args.minutes:
                print("the time is up; the same command goes on with the rest")
                return
            start = time.monotonic()
            attempts, failures, written = self.attempts(passage)
            trials = try_wave(self.model, self.tokenizer, attempts, wave=self.args.wave)
            made, tasks = self.domain("text")
            task = tasks[passage["context"]]
            grader = LexicalGrader()
            rows = []
            for attempt, trial in zip(attempts, trials, strict=True):
                answers = [a for a in trial.answers if not a.question.startswith("kept/")]
                verdicts = [] if trial.failure else made.verdicts(task, trial.candidate, answers, grader)
                rows.append(
                    {"way": attempt.candidate.edit, "repeat": attempt.candidate.repeat, **_scores(trial, verdicts)}
                )
            rows += [{"way": way, "failure": encode(failure)} for way, failure in failures.items()]
            draft = path.with_suffix(".part")
            draft.write_text(json.dumps({"title": passage["title"], "rows": rows, "written": written}))
            draft.replace(path)
            print(f"{task.id}: {len(trials)} trials, {time.monotonic() - start:.0f} s", flush=True)


def _listed(content: Json) -> list[str]:
    return content if isinstance(content, list) else [content] if content else []


def _scores(trial: Trial, verdicts: Sequence[Any]) -> dict[str, Json]:
    if trial.failure:
        return {"failure": encode(trial.failure)}
    credits = [v.credit for v in verdicts if v.credit is not None]
    own = [g for g in trial.likelihoods if not g.question.startswith("kept/")]
    kept = [g for g in trial.likelihoods if g.question.startswith("kept/")]
    return {
        "accuracy": sum(credits) / len(credits),
        "likelihood": sum(g.logprob for g in own) / sum(g.tokens for g in own),
        "kept": sum(g.logprob for g in kept) / sum(g.tokens for g in kept),
        "cost": asdict(trial.cost),
    }


def report(out: Path) -> None:
    files = [json.loads(p.read_text()) for p in sorted(out.glob("passage-*.json"))]
    print(f"{len(files)} passages; ± is the standard error over passages; differences are from `published: text`")
    scores: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    cost: dict[str, list[dict[str, float]]] = defaultdict(list)
    failed: dict[str, list[str]] = defaultdict(list)
    for number, file in enumerate(files):
        for row in file["rows"]:
            if "failure" in row:
                failed[row["way"]].append(row["failure"]["kind"])
                continue
            for measure in ("accuracy", "likelihood", "kept"):
                scores[measure][row["way"]][str(number)].append(row[measure])
            cost[row["way"]].append({**row["cost"], "sampled": file["written"][row["way"]]})
    for measure in ("accuracy", "likelihood", "kept"):
        print(f"\n{measure}")
        table: dict[str, Any] = bootstrap.table(scores[measure], against="published: text", seed=0)
        for way in map(str, WAYS):
            if way not in table:
                continue
            mean, gap = table[way].get("mean"), table[way].get("difference")
            line = f"  {way:<62}{mean.mean:>8.3f} ± {mean.error:.3f}" if mean else f"  {way:<62}{table[way]['missing']}"
            print(
                line + (f"   {gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}), {gap.tasks} passages" if gap else "")
            )
    titles = "".join(f"{title:>9}" for title in ("sampled", "written", "taught", "trained"))
    print(f"\n{'cost of a candidate':<64}{titles}{'steps':>7}{'seconds':>9}")
    for way in map(str, WAYS):
        if rows := cost[way]:
            columns = [sum(r[k] for r in rows) / len(rows) for k in ("sampled", "written", "taught", "tokens", "steps")]
            seconds = sum(r["seconds"] for r in rows) / len(rows)
            print(f"  {way:<62}" + "".join(f"{c:>9.0f}" for c in columns[:4]) + f"{columns[4]:>7.0f}{seconds:>9.1f}")
    print("\nfailed:", dict(failed) or "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("run", "report"))
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--data", type=Path, help="JSON: passages with questions and published edits")
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--longest", type=int, default=10_000, help="characters of a passage")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--texts", type=int, default=6, help="of each text of an edit, at most")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--wave", type=int, default=0)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--chat", choices=("auto", "no"), default="auto")
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args()
    if args.do == "run" and not args.data:
        parser.error("--data: give the file of passages and edits")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.do == "run":
        Study(args).run()
    report(args.out)


if __name__ == "__main__":
    main()

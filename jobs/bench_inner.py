"""How fast candidates are trained and questioned: a bank, PEFT one by one, and the paper's padded recipe.

All arms take the same texts and recipe, in one run, in turn. Needs torch, transformers and peft; a model is a folder,
a hub name, or one of the published shapes with random weights (no download). Only `builtin:` names and `--dtype auto`
need the rest of seal_ray.

    python jobs/bench_inner.py --model FOLDER --texts published_edits.json --candidates 16 --epochs 3 --rank 16
    python jobs/bench_inner.py --shape qwen2.5-7b --device cuda --candidates 64 --epochs 10 --json
"""

import argparse
import contextlib
import itertools
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from bench_work import made_up, published
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from seal_ray.inner import Sampling, fit
from seal_ray.inner.kernels.canary import use_kernels
from seal_ray.inner.kernels.operator import KERNELS
from seal_ray.inner.memory import TOKENS_LIMIT
from seal_ray.inner.reference import fit_one, put_adapter
from seal_ray.records import Example, Recipe
from seal_ray.shapes import KNOWN_CONFIGS, shape_of

ANSWER_TOKENS = 64
PAPER_LENGTH = 2048


def suitable(dtype: str, device: str) -> str:
    """The type that a worker would compute in."""
    if dtype != "auto":
        return dtype
    from seal_ray.models import pick_dtype

    return pick_dtype(dtype, device)


def folder_of(name: str) -> str:
    """The files of a `builtin:` model; other names are left to transformers."""
    if not name.startswith("builtin:"):
        return name
    from seal_ray.config import ModelSection
    from seal_ray.models import fetch

    return fetch(ModelSection(name=name))


class Bench:
    """A model, the work, and what was measured of each arm."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.args = args
        self.device = torch.device(args.device)
        self.dtype = getattr(torch, suitable(args.dtype, args.device))
        self.model = self._model()
        count = args.candidates
        if args.texts:
            if not args.model:
                raise SystemExit("--texts needs a model with a tokenizer: give --model, or leave --texts out")
            tokenizer = AutoTokenizer.from_pretrained(folder_of(args.model))
            self.work = published(Path(args.texts), tokenizer, count, args.edits)
        else:
            self.work = made_up(count, int(self.model.config.vocab_size), args.length, args.uneven)
        self.recipe = Recipe(
            rank=args.rank,
            alpha=2.0 * args.rank,
            epochs=args.epochs,
            targets=tuple(args.targets.split(",")),
            batch_size=args.batch,
        )
        self.losses: dict[str, list[list[float]]] = {}

    def _model(self) -> Any:
        if self.args.model:
            model: Any = AutoModelForCausalLM.from_pretrained(folder_of(self.args.model), dtype=self.dtype)
        else:
            raw = KNOWN_CONFIGS[self.args.shape]
            config = AutoConfig.for_model(**raw)
            with torch.device(self.device):
                torch.set_default_dtype(self.dtype)
                model = AutoModelForCausalLM.from_config(config)
                torch.set_default_dtype(torch.float32)
        return model.to(self.device).eval().requires_grad_(False)

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self._settle()
        started = self._now()
        result = work()
        self._settle()
        return self._now() - started, result

    def _now(self) -> float:
        return time.process_time() if self.args.clock == "cpu" else time.perf_counter()

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def bank(self) -> dict[str, Any]:
        """All candidates in one bank, in as many slots as a worker would take; --slots sets another number."""
        count = self.args.candidates

        def train() -> Any:
            limits = {"slots": self.args.slots, "tokens_limit": self.args.tokens_limit}
            return fit(self.model, self.work.examples, [self.recipe] * count, list(range(count)), **limits)

        fitting, bank = self.seconds(train)
        self.losses["bank"] = bank.losses
        answering = 0.0
        if self.args.answers:
            sampling = Sampling(ANSWER_TOKENS, eos_ids=self.work.eos)
            answering = self.seconds(lambda: bank.answer(self.work.prompts, sampling))[0]
        return self._arm(fitting / count, answering / count, occupied=bank.occupied, slots=bank.slots)

    def plain(self) -> dict[str, Any]:
        """The bank without kernels of its own."""
        use_kernels(self.device, self.dtype)
        kernels, KERNELS[self.device.type] = KERNELS[self.device.type], {}
        try:
            return self.bank()
        finally:
            KERNELS[self.device.type] = kernels

    def cudnn(self) -> dict[str, Any]:
        """The bank where cuDNN's attention is left on."""
        switch = torch.backends.cuda.enable_cudnn_sdp
        torch.backends.cuda.enable_cudnn_sdp = lambda _: switch(True)
        try:
            return self.bank()
        finally:
            torch.backends.cuda.enable_cudnn_sdp = switch

    def peft(self) -> dict[str, Any]:
        """One candidate after another with PEFT, unpadded, in a stock loop."""
        count = self.args.peft_candidates or self.args.candidates
        fitting = answering = 0.0
        losses = []
        for number in range(count):
            took, result = self.seconds(lambda n=number: fit_one(self.model, self.work.examples[n], self.recipe, n))
            fitting += took
            losses.append(result.losses)
            if self.args.answers:
                answering += self.seconds(lambda r=result, n=number: self._generate(r.model, self.work.prompts[n]))[0]
            result.close()
        self.losses["peft"] = losses
        tokens = sum(len(e.ids) for own in self.work.examples[:count] for e in own)
        # where fewer candidates were tried: as if they had been as long as all of them are
        share = self.work.tokens / self.args.candidates / (tokens / count)
        return self._arm(fitting / count * share, answering / count, candidates=count)

    def paper(self) -> dict[str, Any]:
        """The paper's recipe: every text padded to 2048 tokens which are all trained on. A few steps, extrapolated."""
        steps = self.args.paper_steps
        examples = [e for own in self.work.examples for e in own][: steps + 1]
        took = self._trainer(examples) or self._loop(examples)
        per_step = statistics.median(took[1])
        texts = sum(map(len, self.work.examples)) / self.args.candidates
        fitted = per_step * self.recipe.steps(round(texts)) * (texts / round(texts))
        return self._arm(fitted, 0.0, extrapolated_from_steps=len(took[1]), loop=took[0])

    def _trainer(self, examples: list[Example]) -> tuple[str, list[float]] | None:
        """Seconds of each step of the stock Trainer, the first left out; None where it can't be had."""
        try:
            import accelerate  # noqa: F401
            from transformers import Trainer, TrainerCallback, TrainingArguments
        except ImportError:
            return None
        ticks: list[float] = []
        settle = self._settle

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                settle()
                ticks.append(time.perf_counter())

        pad = int(self.work.eos[0]) if self.work.eos else 0
        rows = []
        for example in examples:
            ids = [*example.ids, *[pad] * (PAPER_LENGTH - len(example.ids))]
            rows.append({"input_ids": ids, "labels": ids, "attention_mask": [1] * PAPER_LENGTH})
        result = put_adapter(self.model, replace(self.recipe, batch_size=1), 0)
        arguments = TrainingArguments(
            output_dir=str(Path(self.args.scratch)),
            per_device_train_batch_size=1,
            max_steps=len(examples),
            learning_rate=self.recipe.lr,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=self.device.type == "cpu",
            bf16=False,
        )
        data: Any = rows
        trainer = Trainer(model=result.model, args=arguments, train_dataset=data, callbacks=[Clock()])
        trainer.train()
        result.close()
        self.model.eval()
        return "transformers.Trainer", [b - a for a, b in itertools.pairwise(ticks)]

    def _loop(self, examples: list[Example]) -> tuple[str, list[float]]:
        recipe = replace(self.recipe, pad_to=PAPER_LENGTH, epochs=1, batch_size=1)
        took = []
        for example in examples:
            seconds, result = self.seconds(lambda e=example: fit_one(self.model, [e], recipe, 0))
            result.close()
            took.append(seconds)
        return "stock loop", took[1:]

    def _generate(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        length = max(map(len, prompts))
        ids = torch.tensor([[0] * (length - len(p)) + list(p) for p in prompts], device=self.device)
        seen = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        end = self.work.eos[0] if self.work.eos else None
        with torch.no_grad():
            model.generate(
                input_ids=ids,
                attention_mask=seen,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=0,
            )

    def _arm(self, fitting: float, answering: float, **more: Any) -> dict[str, Any]:
        epoch_tokens = self.work.tokens / self.args.candidates
        flops = self._flops_per_candidate()
        return {
            "seconds_per_candidate": {"fit": fitting, "answer": answering, "all_in": fitting + answering},
            "tokens_per_second": epoch_tokens * self.recipe.epochs / fitting,
            "flops": flops,
            "flops_per_second": flops / fitting,
            **more,
        }

    def _flops_per_candidate(self) -> float:
        """What unpadded training needs: forward and gradient of inputs through the base, all three for the adapter."""
        shape = shape_of(self.model.config.to_dict())
        linear = shape.layers * shape.block_parameters + shape.vocabulary * shape.hidden
        adapter = shape.adapter_parameters(self.recipe.rank, self.recipe.targets)
        tokens = self.work.tokens / self.args.candidates * self.recipe.epochs
        return tokens * (4 * linear + 6 * adapter)

    def matmul_rate(self) -> float:
        """Floating-point operations a second of a large product in the model's dtype."""
        n = 8192 if self.device.type == "cuda" else 1024
        a = torch.randn(n, n, device=self.device, dtype=self.dtype)
        times = 50 if self.device.type == "cuda" else 10
        torch.mm(a, a)
        return max(2 * n**3 * times / self.seconds(lambda: [a @ a for _ in range(times)])[0] for _ in range(3))


def peak_memory(device: torch.device, reset: bool = False) -> float:
    """Gigabytes at most since the last reset: of the device, or of this process."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e9
    marks, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if reset:
        with contextlib.suppress(OSError):  # where this file is closed the peak is that of the whole run
            marks.write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def largest_difference(losses: dict[str, list[list[float]]]) -> float | None:
    if "bank" not in losses or "peft" not in losses:
        return None
    pairs = zip(losses["bank"], losses["peft"], strict=False)
    return max(abs(a - b) for own, other in pairs for a, b in zip(own, other, strict=True))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(args)
    rate = bench.matmul_rate()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in args.arms.split(",")}
    for _ in range(args.repeats):
        for name in found:
            peak_memory(bench.device, reset=True)
            arm = getattr(bench, name)()
            arm["peak_memory_gb"] = peak_memory(bench.device)
            arm["share_of_matmul"] = arm["flops_per_second"] / rate
            found[name].append(arm)
    arms = {n: sorted(r, key=lambda a: a["seconds_per_candidate"]["fit"])[len(r) // 2] for n, r in found.items()}
    for name, runs in found.items():
        arms[name]["fit_of_each_repeat"] = [a["seconds_per_candidate"]["fit"] for a in runs]
    difference = largest_difference(bench.losses)
    ratios = {}
    if "bank" in arms:
        own = arms["bank"]["seconds_per_candidate"]["fit"]
        ratios = {n: a["seconds_per_candidate"]["fit"] / own for n, a in arms.items() if n != "bank"}
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "arms": arms,
        "bank_fits_faster_by": ratios,
        "largest_loss_difference": difference,
        "matmul_flops_per_second": rate,
        "candidates": args.candidates,
        "texts_per_candidate": sum(map(len, bench.work.examples)) / args.candidates,
        "tokens_per_text": bench.work.tokens / sum(map(len, bench.work.examples)),
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "settings": {k: v for k, v in vars(args).items() if k != "json"},
    }


def show(found: dict[str, Any]) -> str:
    out = [f"{found['device']}, {found['matmul_flops_per_second'] / 1e12:.2f} TFLOP/s in a large product"]
    out.append(f"{'arm':6} {'fit s':>9} {'answer s':>9} {'tokens/s':>10} {'of matmul':>10} {'peak GB':>8}")
    for name, arm in found["arms"].items():
        each = arm["seconds_per_candidate"]
        note = " (extrapolated)" if "extrapolated_from_steps" in arm else ""
        out.append(
            f"{name:6} {each['fit']:9.3f} {each['answer']:9.3f} {arm['tokens_per_second']:10.0f}"
            f" {arm['share_of_matmul']:10.1%} {arm['peak_memory_gb']:8.2f}{note}"
        )
    out += [
        f"the bank fits {ratio:.1f} times as fast as {name}" for name, ratio in found["bank_fits_faster_by"].items()
    ]
    if found["largest_loss_difference"] is not None:
        out.append(f"largest difference of a loss between bank and peft: {found['largest_loss_difference']:.2g}")
    return "\n".join(out)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="folder, hub name or builtin: name of a language model with tokenizer")
    which.add_argument("--shape", choices=sorted(KNOWN_CONFIGS), help="random weights of a published shape")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument(
        "--dtype", default="auto", choices=("auto", "bfloat16", "float32"), help="auto: as a worker takes it"
    )
    p.add_argument("--candidates", type=int, default=16)
    p.add_argument("--slots", type=int, default=0, help="candidates in training at once; 0: as a worker plans them")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--batch", type=int, default=1, help="texts in a micro-batch")
    p.add_argument("--targets", default="all-linear", help="names of linear layers, with commas between")
    p.add_argument("--texts", help="published edits as JSON; without it random tokens of published lengths")
    p.add_argument("--length", type=float, default=1.0, help="random texts this many times as long as published ones")
    p.add_argument("--uneven", action="store_true", help="random candidates with step counts that differ fourfold")
    p.add_argument("--edits", default="iter2", help="which of the published edits")
    p.add_argument(
        "--arms",
        default="bank,peft,paper",
        help="some of bank, plain (without its kernels), cudnn (with its attention), peft, paper",
    )
    p.add_argument("--answers", action=argparse.BooleanOptionalAction, default=True, help="answer questions too")
    p.add_argument("--peft-candidates", type=int, default=0, help="candidates of the peft arm; 0: all")
    p.add_argument("--paper-steps", type=int, default=3, help="steps of the paper arm that are timed")
    p.add_argument("--tokens-limit", type=int, default=TOKENS_LIMIT, help="rows of one packed forward, at most")
    p.add_argument("--repeats", type=int, default=1, help="rounds of all arms in turn; the median is reported")
    p.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="cpu: seconds of all threads, where others compute",
    )
    p.add_argument("--scratch", default="/tmp/bench_inner", help="folder that the stock trainer may write to")
    p.add_argument("--json", action="store_true", help="print JSON")
    return p


def main() -> None:
    args = parser().parse_args()
    found = measure(args)
    print(json.dumps(found, indent=1) if args.json else show(found))


if __name__ == "__main__":
    main()

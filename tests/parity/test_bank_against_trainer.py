"""A bank's adapter equals what the stock Hugging Face Trainer makes of PEFT with the same first weights and order."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import texts, tiny
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from seal_ray.inner import fit
from seal_ray.inner.reference import put_adapter
from seal_ray.records import Recipe


class InOrder(Trainer):
    """The stock trainer; it only takes the texts in the order given and keeps each step's loss."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(data)


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    length = max(len(r["input_ids"]) for r in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {k: torch.tensor([r[k] + [v] * (length - len(r[k])) for r in rows]) for k, v in fill.items()}


@pytest.mark.parametrize(
    ("batch", "accumulation", "schedule", "warmup"), [(1, 1, "linear", 0), (2, 1, "cosine", 2), (1, 3, "linear", 1)]
)
def test_the_stock_trainer_comes_to_the_same_losses(tmp_path, batch, accumulation, schedule, warmup):
    recipe = Recipe(
        rank=8,
        alpha=16,
        epochs=3,
        lr=3e-3,
        batch_size=batch,
        accumulation=accumulation,
        schedule=schedule,
        warmup=warmup,
        shuffle=False,
        weight_decay=0.01,
    )
    examples = texts(4, [20, 9, 33, 14, 25])
    model = tiny("llama")
    bank = fit(model, [texts(8, [40, 11]), examples], [dataclasses.replace(recipe, rank=3), recipe], [1, 2])
    reference = put_adapter(model, recipe, 2)
    rows = [
        {
            "input_ids": list(e.ids),
            "labels": [t if m else -100 for t, m in zip(e.ids, e.mask, strict=True)],
            "attention_mask": [1] * len(e.ids),
        }
        for e in examples
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        lr_scheduler_type=schedule,
        warmup_steps=warmup,
        max_grad_norm=recipe.clip,
        weight_decay=recipe.weight_decay,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = InOrder(model=reference.model, args=arguments, train_dataset=rows, data_collator=collate)  # type: ignore[arg-type]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == recipe.steps(len(examples))
    assert bank.losses[1] == pytest.approx(losses, abs=1e-3)
    last_epoch = losses[len(losses) // 3 * 2 :]
    assert losses[0] - last_epoch[0] > 0.1, "the texts were learned, so the losses say something"

"""The few-shot jobs: configurations that hold, tasks that their seed makes, a model that can be trained in pieces."""

import json
from importlib import import_module as job
from pathlib import Path

import numpy as np
from tiny_worlds import JOBS, tiny_world

from seal_ray import config_file, models
from seal_ray.config import ArcDomain
from seal_ray.domains.arc.directives import Directives, read_directives
from seal_ray.domains.arc.grids import Pair, same
from seal_ray.domains.arc.tasks import puzzles, read_tasks


def tiny():
    config, domain = tiny_world("arc-tiny.yaml")
    assert isinstance(config.domain, ArcDomain)
    return config, config.domain, domain


def test_the_papers_recipe_is_what_it_says_it_is():
    config = config_file.load(JOBS / "arc-1b.yaml")
    recipe = config.inner.recipe()
    assert isinstance(config.domain, ArcDomain)
    assert (recipe.rank, recipe.alpha, recipe.batch_size, recipe.schedule, recipe.warmup) == (128, 16, 2, "cosine", 11)
    assert recipe.targets == ("q_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
    assert (config.domain.max_steps, config.domain.max_examples) == (375, 250)
    assert (config.run.rounds, config.run.tasks_per_round, config.sampling.edits) == (1, 11, 15)
    assert (config.policy.rank, config.policy.alpha, config.policy.epochs, config.policy.lr) == (16, 16, 8, 5e-5)
    assert recipe.steps(config.domain.max_examples) <= config.domain.max_steps


def test_the_tiny_job_has_tasks_for_a_round_and_held_out_ones_beside():
    config, _, domain = tiny()
    assert len(domain.tasks("train")) >= config.run.tasks_per_round
    assert len(domain.tasks("test")) >= 24 and len(domain.tasks("validation")) >= 8


def test_the_tasks_in_the_file_are_those_that_the_seed_makes():
    made = job("arc_tiny_tasks")
    kept = json.loads(made.FILE.read_text())
    assert made.challenges(len(kept), made.HELD_OUT) == kept
    assert made.challenges(4, made.HELD_OUT + 1) != dict(list(kept.items())[:4])


def test_every_task_in_the_file_follows_the_rule_in_its_name():
    made = job("arc_tiny_tasks")
    seen = set()
    for task in read_tasks(made.FILE.read_bytes(), None, "file"):
        name = task.id.split(" ", 1)[1]
        seen.add(name)
        (puzzle,) = puzzles(task)
        assert puzzle.output is not None and len(puzzle.demonstrations) == made.DEMONSTRATIONS
        rule = made.RULES[name] or made.paint(int(puzzle.output.max()))
        for pair in [*puzzle.demonstrations, Pair(puzzle.input, puzzle.output)]:
            assert same(rule(pair.input), pair.output) and not same(pair.input, pair.output), task.id
    assert seen == set(made.RULES)


def test_the_tiny_model_learns_the_very_prompts_and_directives_that_the_job_uses(tmp_path):
    model = job("arc_tiny_model")
    _, section, domain = tiny()
    assert (section.learning_rates, section.epoch_choices) == (model.LEARNING_RATES, model.EPOCHS)
    before, after = model.edit_prompt()
    text = domain.edit_request(domain.tasks("train")[0], 0).prompt.text
    assert text.startswith(before) and text.endswith(after)
    rng = np.random.default_rng(0)
    assert all(isinstance(read_directives(model.directives(rng), section), Directives) for _ in range(20))
    model.write_tokenizer(tmp_path)
    tokenizer = models.tokenizer(tmp_path)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) + 256 < model.CONTEXT
    assert len(tokenizer("0123456789\n", add_special_tokens=False)["input_ids"]) == 11


def test_a_batch_is_learned_where_outputs_stand_and_nowhere_else(tmp_path):
    model = job("arc_tiny_model")
    model.write_tokenizer(tmp_path)
    tokenizer = models.tokenizer(tmp_path)
    batches = model.Batches(tokenizer)
    ids, labels = batches.batch(0)
    text = tokenizer.decode(ids[0].tolist())
    learned = tokenizer.decode([i for i in labels[0].tolist() if i >= 0])
    outputs = [part.split("Input:")[0] for part in text.split("Output:\n")[1:]]
    assert learned == "".join(outputs) and learned.endswith("<end>")
    assert (labels[labels >= 0] == ids[labels >= 0]).all()
    again, _ = batches.batch(0)
    assert (again == ids).all()
    ids, labels = batches.batch(model.DIRECTIVES_EVERY - 1)
    chosen = tokenizer.decode([i for i in labels[0].tolist() if i >= 0])
    assert isinstance(read_directives(chosen, tiny()[1]), Directives) and chosen.endswith("<end>")


def test_the_tiny_model_is_made_once_and_found_again(tmp_path, monkeypatch, capsys):
    from safetensors.torch import load_file

    model = job("arc_tiny_model")
    monkeypatch.setattr(model, "BATCH", 240)

    def make(cache: str, link: str) -> Path:
        words = ["", "--steps", "3", "--threads", "1", "--cache", str(tmp_path / cache), "--link", str(tmp_path / link)]
        monkeypatch.setattr("sys.argv", words)
        model.main()
        return tmp_path / link

    first = make("one", "first")
    models.check(first, "the model that was trained")
    assert "step 3 of 3" in capsys.readouterr().out
    again = make("one", "again")
    assert again.resolve() == first.resolve() and "step 3 of 3" not in capsys.readouterr().out
    other = make("two", "first")  # the link is led to the new one
    assert other.resolve() != again.resolve()
    one, two = (load_file(f / "model.safetensors") for f in (again, other))
    assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)


def test_another_recipe_makes_another_tiny_model(monkeypatch):
    model = job("arc_tiny_model")
    one = model.recipe_of(3)
    assert one == model.recipe_of(3) and one != model.recipe_of(4)
    monkeypatch.setattr(model, "WARMUP", 1)
    assert one != model.recipe_of(3)


def test_training_computes_in_float32_on_every_machine():
    """Where a processor only emulates bfloat16 it is some eighty times slower."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    kinds: set[torch.dtype] = set()

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            kinds.update(t.dtype for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor))
            return out

    tiny_training = job("tiny_training")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = tiny_training.new_llama(1, vocab_size=50, **shape)
    ids = np.arange(40).reshape(2, 20)
    with Watched():
        tiny_training.train(model, lambda step: (ids, ids), 2)
    assert torch.float32 in kinds and not {k for k in kinds if k.is_floating_point} - {torch.float32, torch.float64}
    for name in ("arc", "knowledge", "math"):
        assert job(f"{name}_tiny_model").train is tiny_training.train


def test_matrices_step_as_torchs_own_muon_steps_them_up_to_its_coarser_numbers():
    import torch

    tiny_training = job("tiny_training")
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((24, 8), (8, 24), (24, 8))]
    theirs = [torch.nn.Parameter(m.detach().clone()) for m in ours]
    mine, other = tiny_training.Muon(ours, weight_decay=0.01), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step(0.02)
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=2e-3), (a - b).abs().max()

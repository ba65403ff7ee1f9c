"""The compiled kernels of a CPU compute what the plain forms do, and are in nobody's way where they can't be had."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bank_models import texts, tiny

from seal_ray.inner import fit, frozen
from seal_ray.inner.kernels import canary, compiled
from seal_ray.inner.kernels.operator import KERNELS, OPERATORS
from seal_ray.inner.layout import Block
from seal_ray.records import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kernels() -> dict[str, Any]:
    if not any(map(shutil.which, compiled.COMPILERS)):
        pytest.skip("no C++ compiler, so a CPU has no kernels of its own")
    return canary.cpu_kernels()


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """As in a process whose canary has seen nothing yet; the kernels that it takes into use."""
    taken: dict[str, Any] = {}
    monkeypatch.setitem(KERNELS, "cpu", taken)
    canary.use_kernels.cache_clear()
    yield taken
    canary.use_kernels.cache_clear()


def test_every_kernel_computes_what_its_plain_form_does(kernels):
    sampled = {name for name, _ in canary.samples(CPU, torch.float32)}
    own_to_a_cpu = {name for name, operator in OPERATORS.items() if not operator.on_gpu}
    assert own_to_a_cpu < set(kernels) < sampled
    assert canary.disagreements(kernels, CPU, torch.float32) == {}


def off(kernel: Any, written: list[int]) -> Any:
    """A kernel whose last result is off by a thousandth."""

    def own(*args: Any) -> Any:
        out = kernel(*args)
        results = [out] if isinstance(out, torch.Tensor) else list(out or ())
        (results or [args[n] for n in written])[-1].mul_(1.001)
        return out

    return own


def test_the_canary_tells_every_kernel_that_is_a_little_off(kernels):
    wrong = {name: off(kernel, OPERATORS[name].written) for name, kernel in kernels.items()}
    assert set(canary.disagreements(wrong, CPU, torch.float32)) == set(kernels)


def test_a_nan_stays_one_and_stays_in_its_row(kernels):
    gate, up = torch.ones(3, 40), torch.ones(3, 40)
    gate[1, 7] = float("nan")
    product = kernels["swiglu_"](gate, up, None, None)
    assert product.isnan().nonzero().tolist() == [[1, 7]]
    normed = kernels["rms_norm"](gate, torch.ones(40), 1e-6)
    assert normed.isnan().all(1).tolist() == [False, True, False] and normed.isnan().any(1).sum() == 1
    logits = torch.ones(3, 40)
    logits[1, 7] = float("nan")
    assert kernels["vocabulary_loss_"](logits, torch.tensor([1, 2, 3])).isnan().tolist() == [False, True, False]
    assert logits.isnan().all(1).tolist() == [False, True, False]


def test_rows_may_lie_apart_and_nothing_is_written_beside_them(kernels):
    blocks = [Block(0, 5, 2, 0, 2), Block(10, 7, 1, 1, 2, fresh=False)]
    wide, matrices = torch.full((17, 40), 7.0), torch.ones(2, 3, 8)
    kernels["rows_by_matrices_"](wide[:, 9:17], torch.ones(17, 30)[:, 4:7], matrices, blocks, False)
    assert wide[:, 9:17].eq(3).all() and wide[:, :9].eq(7).all() and wide[:, 17:].eq(7).all()
    grads = torch.full((2, 50), 7.0)
    left, right = torch.ones(17, 30)[:, 4:7], torch.ones(17, 40)[:, :8]
    kernels["rows_by_rows_"](grads[:, 10:34].view(2, 3, 8), left, right, blocks)
    assert grads[:, 10:34].tolist() == [[5.0] * 24, [12.0] * 24], "a position's second block is added"
    assert grads[:, :10].eq(7).all() and grads[:, 34:].eq(7).all()


def trained() -> tuple[Any, list[torch.Tensor]]:
    """Adapters of two ranks with texts of several lengths, in more slots than one and fewer than all."""
    sets = [texts(1, [9, 30]), texts(2, [4]), texts(3, [17, 5, 11])]
    recipes = [Recipe(rank=rank, alpha=8.0, epochs=2, lr=3e-3, batch_size=2) for rank in (8, 4, 8)]
    bank = fit(tiny("qwen2"), sets, recipes, [1, 2, 3], slots=2)
    return bank.losses, [bank.weights[n] for n in range(3)]


def close(own: Any, other: Any) -> None:
    for of_own, of_other in zip(own[0], other[0], strict=True):
        assert of_own == pytest.approx(of_other, abs=1e-5)
    for of_own, of_other in zip(own[1], other[1], strict=True):
        assert torch.allclose(of_own, of_other, rtol=0, atol=1e-5)


def test_a_bank_comes_to_the_same_with_and_without_kernels(kernels, monkeypatch):
    called = set()

    def noted(name: str) -> Any:
        return lambda *args: called.add(name) or kernels[name](*args)

    monkeypatch.setattr(frozen, "use_kernels", lambda *_: True)
    monkeypatch.setitem(KERNELS, "cpu", {name: noted(name) for name in kernels})
    own = trained()
    assert called == set(kernels)
    monkeypatch.setitem(KERNELS, "cpu", {})
    close(own, trained())


def same_bits(own: Any, other: Any) -> bool:
    return own[0] == other[0] and all(map(torch.equal, own[1], other[1]))


def test_kernels_compute_the_same_bits_each_time_and_with_any_number_of_threads(kernels):
    torch.manual_seed(3)
    first: dict[int, list[Any]] = {}
    threads = torch.get_num_threads()
    try:
        for turn, count in enumerate((1, 1, 2, 3)):
            torch.set_num_threads(count)
            first[turn] = [
                canary._results(kernels[name], arguments, OPERATORS[name].written)
                for name, arguments in canary.samples(CPU, torch.float32) if name in kernels
            ]  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    for turn in (1, 2, 3):
        assert all(torch.equal(a, b) for own, other in zip(first[0], first[turn], strict=True)
                   for a, b in zip(own, other, strict=True)), f"turn {turn}"  # fmt: skip


def doubled(form: Any) -> Any:
    def wrong(*args: Any) -> Any:
        out = form(*args)
        return out.mul_(2) if isinstance(out, torch.Tensor) else out

    return wrong


@pytest.mark.parametrize("fault", ["no compiler", "broken source", "wrong", "switched off", "another type"])
def test_plain_forms_stand_in_for_kernels_that_are_missing_wrong_or_not_wanted(
    fault, unseen, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("SEAL_RAY_CACHE", str(tmp_path))
    if fault == "no compiler":
        monkeypatch.setattr(compiled, "COMPILERS", ("no-such-compiler",))
    elif fault == "broken source":
        monkeypatch.setattr(compiled, "SOURCE", tmp_path / "broken.cpp")
        (tmp_path / "broken.cpp").write_text("no C++")
    elif fault == "wrong":
        plain = {name: doubled(operator.plain) for name, operator in OPERATORS.items() if name != "swiglu_"}
        monkeypatch.setattr(canary, "cpu_kernels", lambda: plain | {"swiglu_": OPERATORS["swiglu_"].plain})
    elif fault == "switched off":
        monkeypatch.setenv(canary.CHOICE, "plain")
    dtype = torch.bfloat16 if fault == "another type" else torch.float32
    assert not canary.use_kernels(CPU, dtype) and not canary.use_kernels(CPU, dtype)
    assert not set(unseen) & {"rms_norm", "vocabulary_loss_"} and ("swiglu_" in unseen) == (fault == "wrong")
    assert caplog.text.count("instead") == (fault in {"no compiler", "broken source"})
    assert caplog.text.count("are off") == (fault == "wrong")
    losses, _ = trained()
    assert all(map(len, losses))


def test_the_library_is_compiled_once_and_kept(kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("SEAL_RAY_CACHE", str(tmp_path))
    compiled.library()
    (folder,) = tmp_path.iterdir()
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o077 == file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(compiled, "COMPILERS", ())
    assert compiled.library().normalise
    monkeypatch.setattr(compiled, "_processor", lambda: ["another"])
    with pytest.raises(FileNotFoundError, match="no C"):
        compiled.library()


@pytest.mark.parametrize("open_to_others", ["folder", "file"])
def test_what_others_may_write_to_is_not_loaded(open_to_others, kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("SEAL_RAY_CACHE", str(tmp_path))
    compiled.library()
    (folder,) = tmp_path.iterdir()
    opened: Path = folder if open_to_others == "folder" else next(folder.iterdir())
    opened.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write"):
        compiled.library()

"""The loss of distillation: a KL of whole distributions, and the gradient that is computed in place of autograd's."""

import pytest
import torch
from torch.nn import functional as F

from seal_ray.inner.distill import TopTokens, top_kl, top_kl_to_gradient, top_tokens


def logits(seed: int, rows: int = 7, vocabulary: int = 101, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def test_what_is_kept_of_a_teacher_is_a_whole_distribution():
    teacher = top_tokens(logits(1), temperature=2.0, top=5)
    assert teacher.ids.shape == (7, 5)
    assert torch.allclose(teacher.shares.sum(-1) + teacher.rest, torch.ones(7))
    assert torch.equal(teacher.ids[:, 0], logits(1).argmax(-1))
    assert torch.allclose(teacher.shares[:, 0], (logits(1) / 2).softmax(-1).max(-1).values)


def test_over_the_whole_vocabulary_it_is_the_plain_kl():
    teacher, student = logits(1), logits(2)
    loss = top_kl(student, top_tokens(teacher, 2.0, top=101))
    whole = F.kl_div((student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="none").sum(-1)
    assert torch.allclose(loss, whole, atol=1e-5)


def test_a_student_that_agrees_has_no_loss_and_fewer_tokens_never_see_more():
    teacher, student = logits(1), logits(2)
    assert top_kl(teacher, top_tokens(teacher, 2.0)).abs().max() < 1e-5
    few, many = (top_kl(student, top_tokens(teacher, 2.0, top)) for top in (3, 40))
    assert (few > 0).all() and (few <= many + 1e-6).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("top", [1, 20, 101])
def test_the_gradient_in_place_is_autograds(temperature, top):
    teacher = top_tokens(logits(1), temperature, top)
    student = logits(2).requires_grad_()
    losses = top_kl(student, teacher)
    losses.sum().backward()
    own = student.detach().clone()
    assert student.grad is not None
    assert torch.allclose(top_kl_to_gradient(own, teacher), losses, atol=1e-5)
    assert torch.allclose(own, student.grad, atol=1e-6)


def test_a_certain_teacher_and_a_certain_student_make_no_nan():
    sure = torch.full((2, 50), -1e4)
    sure[0, 3], sure[1, 4] = 1e4, 1e4
    teacher = top_tokens(sure, 2.0, 5)
    wrong = sure.flip(0).clone().requires_grad_()
    losses = top_kl(wrong, teacher)
    losses.sum().backward()
    assert wrong.grad is not None
    assert losses.isfinite().all() and wrong.grad.isfinite().all() and (losses > 10).all()
    assert top_kl_to_gradient(sure.flip(0).clone(), teacher).isfinite().all()
    assert top_kl(sure, teacher).abs().max() < 1e-5


def test_teachers_of_several_temperatures_are_joined():
    parts = [top_tokens(logits(1), 1.0, 5), top_tokens(logits(3), 2.0, 5)]
    both = top_kl(torch.cat([logits(2), logits(4)]), TopTokens.joined(parts))
    assert torch.allclose(both[:7], top_kl(logits(2), parts[0])) and torch.allclose(
        both[7:], top_kl(logits(4), parts[1])
    )
    assert torch.allclose(top_kl(logits(2)[2:4], parts[0].at(slice(2, 4))), both[2:4])

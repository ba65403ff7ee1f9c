"""The optimiser step of many adapters on a GPU, each a row: gradients' norms, and AdamW with the copy it is used as.

An adapter's B is used times a scale, so the gradient that comes is by the scaled B: it is scaled here, on its way.
"""

from torch import Tensor

from seal_ray.inner.kernels.operator import Operator

# of each adapter, in this order: beta_1, beta_2, eps, weight decay, the norm's limit, the scale of B's gradient, the
# scale of B in the copy, learning rate, 1 - beta_1 ** step, 1 - beta_2 ** step
NUMBERS = 10


def _gradients(grads: Tensor, places: Tensor, numbers: Tensor, split: int) -> Tensor:
    own = grads.index_select(0, places).float()
    own[:, split:] *= numbers[:, 5:6]
    return own


def _gradient_norms(grads: Tensor, places: Tensor, numbers: Tensor, split: int) -> Tensor:
    return _gradients(grads, places, numbers, split).norm(dim=1)


def _step(
    master: Tensor, first: Tensor, second: Tensor, copy: Tensor, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, split: int,
) -> None:  # fmt: skip
    beta_1, beta_2, eps, decay, limit, _, scale, rate, bias_1, bias_2 = numbers[:, :, None].unbind(1)
    well = norms.isfinite()
    slots, part = slots[well], _gradients(grads, places, numbers, split)
    part = (part * (limit / (norms[:, None] + 1e-6)).clamp(max=1.0))[well]
    beta_1, beta_2, eps, decay, scale, rate, bias_1, bias_2 = (
        n[well] for n in (beta_1, beta_2, eps, decay, scale, rate, bias_1, bias_2)
    )
    m = beta_1 * first[slots] + (1 - beta_1) * part
    v = beta_2 * second[slots] + (1 - beta_2) * part * part
    weights = master[slots] * (1 - rate * decay) - rate / bias_1 * m / ((v / bias_2).sqrt() + eps)
    master[slots], first[slots], second[slots] = weights, m, v
    weights[:, split:] *= scale
    copy[slots] = weights.to(copy.dtype)


gradient_norms = Operator(
    "gradient_norms(Tensor grads, Tensor places, Tensor numbers, int split) -> Tensor",
    _gradient_norms,
    lambda grads, places, numbers, split: numbers.new_empty(len(numbers)),
)

# of the rows `slots`, whose gradients are the rows `places` of grads; one whose norm is not finite stays as it was
adam_step = Operator(
    "adam_step_(Tensor(a!) master, Tensor(b!) first, Tensor(c!) second, Tensor(d!) copy, Tensor grads,"
    " Tensor slots, Tensor places, Tensor norms, Tensor numbers, int split) -> ()",
    _step,
    lambda *_: None,
)

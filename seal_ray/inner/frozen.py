"""The frozen model as a bank runs it: packed rows through the base, each block of rows through its own adapters.

While a `Frozen` is attached, the model's linear layers and its attention are the bank's; afterwards the model is as
it was. A PeftModel's active adapter (the policy) stays in the forward, frozen.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel

from seal_ray.inner.attention import NAME, AttentionCall, Forks, KeyValueCache, block_mask, packed_attention
from seal_ray.inner.capacity import out_of_memory
from seal_ray.inner.decoder_block import DecoderBlock, decoder_block
from seal_ray.inner.dropout import Dropout
from seal_ray.inner.isolation import check_isolation
from seal_ray.inner.kernels.canary import use_kernels
from seal_ray.inner.layout import BLOCK_COST, Block, Layout
from seal_ray.inner.linear import AdaptedLinear, AddedAdapters, Beneath
from seal_ray.inner.norm import FrozenNorm, rms_norms
from seal_ray.inner.products import AdaptedRows, Adapters, BlockRows

SLOW_BLOCK_COST = 8
TRIAL_ROWS = 3  # by which a block is compared with what stands in for it
# settings by which some models change their logits after the head, which the bank does not do
LOGIT_SETTINGS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "logits_soft_cap",
    "output_logit_soft_cap",
)


@dataclass(frozen=True)
class RaggedTexts:
    """What a forward of unpadded texts needs beside their rows."""

    adapted: AdaptedRows
    bounds: Tensor  # int32: the first row of each text, and the end of the last


@dataclass
class Pass:
    """One forward: its layout, the adapters of each layer, and where keys and values are kept, if they are."""

    blocks: list[Block]
    adapters: Mapping[str, Adapters]
    adapted: AdaptedRows | None  # None where no row has an adapter
    device: torch.device
    cache: KeyValueCache | None = None
    forks: Forks | None = None
    bounds: Tensor | None = None  # of texts that are not padded, for attention over any lengths at once
    dropout: Dropout | None = None
    masks: dict[tuple[int, int | None], Tensor | None] = field(default_factory=dict)
    calls: dict[int, AttentionCall] = field(default_factory=dict)  # what layers of their own forward have asked for

    def mask(self, block: Block, window: int | None) -> Tensor | None:
        """What this block's tokens see, made once for all layers."""
        key = (block.row, window)
        if key not in self.masks:
            self.masks[key] = block_mask(block, self.forks, window, self.device)
        return self.masks[key]


class Frozen:
    """A causal language model whose weights never change, with its linear layers by name."""

    def __init__(self, model: nn.Module, *, checkpointing: bool = False) -> None:
        self.model = model
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        if not isinstance(base, PreTrainedModel):
            raise ValueError(f"{type(base).__name__} is no Hugging Face causal language model")
        config = base.config.get_text_config()  # the decoder's own, where the model also sees or hears
        for name in LOGIT_SETTINGS:
            if any(getattr(c, name, None) not in (None, 1.0) for c in (base.config, config)):
                raise ValueError(f"the model's configuration sets {name}, which a bank does not know how to apply")
        self.base: PreTrainedModel = base
        self.decoder: Any = base.get_decoder()
        self.head: Any = base.get_output_embeddings()
        if self.head is None:
            raise ValueError(f"{type(base).__name__} has no output head; load a causal language model")
        linear, read = linear_layers(base), {*self.decoder.modules(), self.head}
        # what else a model has (a vision tower) reads no text; adapters that PEFT's all-linear puts there stay zero
        self.layers = {name: layer for name, layer in linear.items() if layer in read}
        self._beside = {_last_part(name) for name in linear.keys() - self.layers.keys()}
        self.head_name = next((n for n, m in self.layers.items() if m is self.head), None)
        embedding: Any = base.get_input_embeddings()
        self.dtype: torch.dtype = embedding.weight.dtype
        self.device: torch.device = embedding.weight.device
        self.kernels = use_kernels(self.device, self.dtype)
        self.context = int(getattr(config, "max_position_embeddings", 0) or 2**31)
        self.vocabulary = int(config.vocab_size)
        # where a row takes long, a block's few small products are worth fewer rows
        slow = self.device.type == "cpu" and self.dtype == torch.float32
        self.block_cost = SLOW_BLOCK_COST if slow else BLOCK_COST
        self.checkpointing = checkpointing
        self.by_layer = False  # every linear layer is called by itself, for whoever listens to it
        self._blocks: dict[nn.Module, DecoderBlock | None] = {}
        self._isolated = False  # whether texts of a packed row are known to be
        self._pass: Pass | None = None
        self._anchor = torch.zeros((), requires_grad=True)

    def target_modules(self, names: Collection[str]) -> list[str]:
        """How PEFT is told of adapters on these layers: by their names' last parts, where these reach no others."""
        ends = {_last_part(name) for name in names}
        reached = {name for name in self.layers if _last_part(name) in ends}
        return sorted(ends if reached == {*names} and ends.isdisjoint(self._beside) else names)

    @property
    def pad_id(self) -> int:
        """The token that fills a padded text: the end-of-text token where the model names no other."""
        config = self.base.config.get_text_config()
        token = config.pad_token_id if config.pad_token_id is not None else config.eos_token_id
        token = token[0] if isinstance(token, list) else token
        return int(token) if token is not None and 0 <= token < self.vocabulary else 0

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens by which the model itself ends a text."""
        named = (getattr(self.base, "generation_config", None), self.base.config.get_text_config())
        return tuple(sorted({t for config in named for t in _listed(getattr(config, "eos_token_id", None))}))

    @contextmanager
    def attached(self, names: Sequence[str]) -> Iterator[None]:
        """Puts the bank's adapters on the named layers and its attention into the model, and takes both off again."""
        AttentionInterface.register(NAME, packed_attention)
        cudnn = torch.backends.cuda.cudnn_sdp_enabled()
        config = self.base.config.get_text_config()
        attention, training = config._attn_implementation, [m for m in self.model.modules() if m.training]
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        blocks, norms = decoder_layers(self.decoder), rms_norms(self.decoder)
        try:
            # cuDNN plans its attention anew for every shape, and a bank has hundreds of them
            torch.backends.cuda.enable_cudnn_sdp(False)
            for parameter in trainable:
                parameter.requires_grad_(False)
            self.model.eval()
            config._attn_implementation = NAME
            if not self._blocks:
                self._blocks = {block: self._tried(block, norms) for block in blocks}
            for name in names:
                self.layers[name].forward = self._layer_forward(name)
            for block in blocks:
                block.forward = self._block_forward(block)
            for norm, eps in norms.items():
                norm.forward = partial(_normalised, norm, eps)
            # blocks that are computed in parts mix rows in the bank's attention alone, and need no trial
            self._isolated = self._isolated or (bool(blocks) and all(self._blocks.values()))
            if not self._isolated:
                check_isolation(self)
                self._isolated, self._pass = True, None
            yield
        finally:
            self._pass = None
            torch.backends.cuda.enable_cudnn_sdp(cudnn)
            for module in [*(self.layers[n] for n in names), *blocks, *norms]:
                module.__dict__.pop("forward", None)
            config._attn_implementation = attention
            for parameter in trainable:
                parameter.requires_grad_(True)
            for module in training:
                module.training = True

    def _layer_forward(self, name: str) -> Any:
        layer = self.layers[name]
        own, beneath = layer.forward, plain_weights(layer)

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            current = self._pass
            if current is None or current.adapted is None:
                return own(x, *args, **kwargs)
            adapters, adapted = current.adapters[name], current.adapted
            if current.dropout is not None:
                adapted = current.dropout.over(name, adapted)
            if beneath is not None:
                return AdaptedLinear.apply(x, self._anchor, beneath, adapters, adapted)  # type: ignore[return-value]
            y = own(x, *args, **kwargs).to(x.dtype)
            return AddedAdapters.apply(y, x, self._anchor, adapters, adapted)  # type: ignore[return-value]

        return forward

    def _block_forward(self, block: nn.Module) -> Any:
        own, parts = block.forward, self._blocks[block]

        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            current, run = self._pass, own
            if not (parts is None or current is None or current.dropout is not None or self.by_layer):
                run = partial(parts.forward, kwargs["position_embeddings"], self._anchor, current)
                args, kwargs = (), {}
            if self.checkpointing and torch.is_grad_enabled():
                return checkpoint(run, hidden, *args, use_reentrant=False, **kwargs)
            return run(hidden, *args, **kwargs)

        return forward

    @torch.no_grad()
    def _tried(self, block: nn.Module, norms: Mapping[Any, float]) -> DecoderBlock | None:
        """The block's parts, if they do on a few random rows what the block does.

        A copy in float32 is tried: in 16 bits rounding hides what is different, and shows differences where none are.
        """
        beneath = {name: plain_weights(layer) for name, layer in self.layers.items()}
        parts = decoder_block(block, beneath, self.layers, norms)
        if parts is None:
            return None
        twin = deepcopy(block).float()
        same = dict(zip(block.modules(), twin.modules(), strict=True))
        layers = {name: same[layer] for name, layer in self.layers.items() if layer in same}
        plain = {name: plain_weights(layer) for name, layer in layers.items()}
        other = decoder_block(twin, plain, layers, {same[norm]: eps for norm, eps in norms.items() if norm in same})
        generator = torch.Generator().manual_seed(0)

        def rows(width: int, size: float) -> Tensor:
            return (torch.randn(1, TRIAL_ROWS, width, generator=generator) * size).to(self.device)

        # a small stream, beside which what the block adds to it counts; angles that turn a lot
        x, angles = rows(len(parts.norm.weight), 1 / 64), (rows(parts.head_width, 1), rows(parts.head_width, 1))
        trial = Pass([Block(0, TRIAL_ROWS, 1)], {}, None, self.device)
        try:
            own = twin(x, attention_mask=None, position_embeddings=angles, bank_pass=trial)
            call = trial.calls[parts.attention.layer]
            ours = replace(other, attention=call).forward(angles, self._anchor, trial, x) if other else x
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            if out_of_memory(error):  # says nothing about the block
                raise
            return None  # a block that only looks like one of the usual build
        size = (own - x).norm() / own.numel() ** 0.5
        close = torch.allclose(ours / size, own / size, rtol=0, atol=5e-3)
        return replace(parts, attention=call) if close else None

    def hidden(
        self,
        ids: Sequence[int] | Tensor,
        positions: Sequence[int] | Tensor,
        blocks: list[Block],
        adapters: Mapping[str, Adapters],
        cache: KeyValueCache | None = None,
        segments: Sequence[int] | None = None,
        ragged: RaggedTexts | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """The last hidden states `[rows, width]` of a packed row. Only while attached."""
        position_ids = self._row(positions)
        forks = None if segments is None else Forks(self._row(segments)[0], position_ids[0])
        in_blocks = [b for b in blocks if b.last > b.first]
        adapted = ragged.adapted if ragged else BlockRows(in_blocks) if in_blocks else None
        bounds = ragged.bounds if ragged else None
        self._pass = Pass(blocks, adapters, adapted, self.device, cache, forks, bounds, dropout)
        out = self.decoder(
            input_ids=self._row(ids),
            position_ids=position_ids,
            use_cache=False,
            bank_pass=self._pass,
        )
        return out.last_hidden_state.squeeze(0)

    def release(self) -> None:
        """Lets go of the last forward and of the adapters that it had. Not before its backward."""
        self._pass = None

    def packed(self, layout: Layout, adapters: Mapping[str, Adapters], cache: KeyValueCache | None = None) -> Tensor:
        ids, positions, segments = layout.token_ids(), layout.positions(), layout.segments()
        return self.hidden(ids, positions, layout.blocks, adapters, cache, segments)

    def _row(self, values: Sequence[int] | Tensor) -> Tensor:
        row = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.long)
        return row.to(self.device, non_blocking=True).unsqueeze(0)


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _normalised(norm: Any, eps: float, x: Tensor) -> Tensor:
    return FrozenNorm.apply(x, norm.weight, eps)  # type: ignore[return-value]


def check_model(model: nn.Module) -> None:
    """Raises ValueError for a model that a bank can't take."""
    with Frozen(model).attached([]):
        pass


def linear_layers(base: nn.Module) -> dict[str, Any]:
    """The linear layers by their names in the base model, whether or not PEFT has wrapped them."""
    layers: dict[str, Any] = {}
    wrapped: tuple[str, ...] = ()
    for name, module in base.named_modules():
        if wrapped and name.startswith(wrapped):
            continue
        if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), nn.Linear):
            layers[name] = module
            wrapped = (*wrapped, name + ".")
        elif isinstance(module, nn.Linear):
            layers[name] = module
    return layers


def _last_part(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def plain_weights(layer: Any) -> Beneath | None:
    """A layer as plain weights with the usual kind of adapter from the policy; None where it is anything else."""
    if type(layer) is nn.Linear:
        return Beneath(layer.weight, layer.bias)
    if not isinstance(layer, LoraLayer) or type(layer.get_base_layer()) is not nn.Linear or layer.merged:
        return None
    base: Any = layer.get_base_layer()
    policy = policy_pair(layer)
    if policy is not None and (
        layer.lora_variant or any(layer.lora_bias.values()) or policy[0].dtype != base.weight.dtype
    ):
        return None
    return Beneath(base.weight, base.bias, policy)


def policy_pair(layer: Any) -> tuple[Tensor, Tensor] | None:
    """The adapters that a layer carries already, as one `[rank, in]` and one `[out, rank]` with the scale folded in."""
    if not isinstance(layer, LoraLayer) or layer.disable_adapters:
        return None
    lora: Any = layer
    active = [n for n in lora.active_adapters if n in lora.lora_A]
    if not active:
        return None
    a = torch.cat([lora.lora_A[n].weight.detach() for n in active])
    b = torch.cat([lora.lora_B[n].weight.detach() * lora.scaling[n] for n in active], dim=1)
    return a, b


def decoder_layers(decoder: Any) -> list[nn.Module]:
    layers = getattr(decoder, "layers", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else []

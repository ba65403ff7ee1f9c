"""What a policy update needs: bytes on each device and seconds, by a formula of plain numbers, without torch.

Bytes on one device of n, with b bytes a weight (2 in bfloat16), P weights in the base and A in the adapter (in full
fine-tuning the trained weights are T = P, with LoRA T = A):

    weights      b (P + A), divided by n under ZeRO 3; plus two gathered layers there
    gradients    b T, divided by n under ZeRO 2 and 3
    optimiser    12 T / n (float32 copy and two moments), nothing on the device with offload
    buckets      2 b x 5e7
    activations  with recomputation: one input a layer and one layer's inner values; without: all layers' inner values
    logits       of one row's completion tokens: twice b x vocabulary (values and gradients), and a chunk in float32
    reference    in full fine-tuning the base once more, for the drift from it: b P, divided by n under ZeRO 3

Seconds: a token costs 2 P operations forward, 2 P more backward through the frozen base (4 P where weights are
trained), and 2 P for recomputation. Scans before and after add forwards. ZeRO 3 moves the weights to each device once
for every pass over a row.
"""

from dataclasses import dataclass

from seal_ray.config import PolicySection
from seal_ray.shapes import Shape

BUCKET = int(5e7)  # elements; what the update asks DeepSpeed for on GPU
CHUNK = 1024  # logits that are in float32 at once
SPARE = 1.5e9  # CUDA context, collectives' buffers, fragments
LINK = 20e9  # bytes a second into one device, over its slowest link (100 Gbit/s and some)


@dataclass(frozen=True)
class UpdateSetup:
    """What memory and time of an update depend on, apart from the model."""

    devices: int = 1
    mode: str = "lora"
    rank: int = 64
    targets: tuple[str, ...] = ("all-linear",)
    zero_stage: int = 2
    offload: str = "none"
    checkpointing: bool = True
    epochs: int = 2
    row_tokens: int = 4096
    weight_bytes: int = 2

    @staticmethod
    def of(section: PolicySection, *, devices: int, weight_bytes: int) -> "UpdateSetup":
        return UpdateSetup(
            devices,
            section.mode,
            section.rank,
            section.targets,
            section.zero_stage,
            section.offload,
            section.checkpointing,
            section.epochs,
            section.micro_batch_tokens,
            weight_bytes,
        )


@dataclass(frozen=True)
class Need:
    """Bytes on one device, by what they are for, and bytes of CPU memory for each worker."""

    weights: float
    gradients: float
    optimizer: float
    buckets: float
    activations: float
    logits: float
    reference: float
    cpu: float

    @property
    def total(self) -> float:
        """The most that is held at once: the reference comes when activations have gone."""
        states = self.weights + self.gradients + self.optimizer + self.buckets + self.logits
        return SPARE + states + max(self.activations, self.reference)


def need(shape: Shape, setup: UpdateSetup) -> Need:
    """Memory of an update."""
    devices, weight_bytes, row_tokens = setup.devices, setup.weight_bytes, setup.row_tokens
    lora = setup.mode == "lora"
    base = shape.parameters
    adapter = shape.adapter_parameters(setup.rank, setup.targets) if lora else 0
    trained = adapter if lora else base
    weights = weight_bytes * (base + adapter)
    reference = 0 if lora else weight_bytes * base / (devices if setup.zero_stage == 3 else 1)
    if setup.zero_stage == 3:
        gathered = 2 * shape.block_parameters + shape.vocabulary * shape.hidden
        weights = weights / devices + weight_bytes * gathered
    gradients = weight_bytes * trained / (devices if setup.zero_stage >= 2 else 1)
    optimizer = 12 * trained / devices
    inner = _inner_values(shape, setup.rank if lora else 0, weight_bytes) * weight_bytes * row_tokens
    kept = shape.layers * shape.hidden * weight_bytes * row_tokens
    logits = shape.vocabulary * (2 * weight_bytes * row_tokens + 3 * 4 * min(CHUNK, row_tokens))
    return Need(
        weights=weights,
        gradients=gradients,
        optimizer=0 if setup.offload == "cpu" else optimizer,
        buckets=2 * weight_bytes * BUCKET,
        activations=kept + inner if setup.checkpointing else shape.layers * inner,
        logits=logits,
        reference=reference,
        cpu=optimizer + 4 * trained / devices if setup.offload == "cpu" else 0,
    )


def seconds(shape: Shape, setup: UpdateSetup, tokens: int, *, flops: float) -> float:
    """Time of an update on `tokens` tokens (of one epoch) where each device does `flops` operations a second.

    `flops` is what a device reaches, not what its sheet says: 40 % of it is usual. Start-up is not in it.
    """
    base = shape.parameters
    lora, epochs, devices = setup.mode == "lora", setup.epochs, setup.devices
    passes = 2 + (2 if lora else 4) + (2 if setup.checkpointing else 0)
    scans = 4  # before, after, and the drift's two
    compute = tokens * base * (passes * epochs + 2 * scans) / (flops * devices)
    if setup.zero_stage < 3 or devices == 1:
        return compute
    rows = -(-tokens // (setup.row_tokens * devices))  # each worker's rows; all gather in step
    gathers = rows * ((3 if setup.checkpointing else 2) * epochs + scans)
    return compute + gathers * base * setup.weight_bytes * (devices - 1) / devices / LINK


def _inner_values(shape: Shape, rank: int, weight_bytes: int) -> float:
    """Values that one layer keeps for its backward, for each token. In bfloat16 the norms keep theirs in float32."""
    norms_and_inputs = (10 if weight_bytes == 2 else 8) * shape.hidden
    attention = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim
    return norms_and_inputs + attention + 4 * shape.intermediate + len(shape.linears) * rank

"""Every size and hyper-parameter of the model, its data and its training, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class ModelSize:
    """Architecture. The decoder's row lengths are multiples of 32, the block size of Q8_0."""

    image: int = 64
    patch: int = 8
    vision_width: int = 192
    vision_heads: int = 3
    vision_blocks: int = 2
    vision_ffn: int = 768
    vision_eps: float = 1e-5
    pixel_mean: float = 0.5
    pixel_std: float = 0.5
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    blocks: int = 6
    # Must differ from `width`: llama.cpp takes ffn_up and ffn_down for swapped when they could be.
    ffn: int = 768
    eps: float = 1e-5
    rope_base: float = 10000.0
    context: int = 4096

    @property
    def grid(self) -> int:
        """Patches along one edge of a picture."""
        return self.image // self.patch

    @property
    def picture_tokens(self) -> int:
        """Tokens one picture takes in the prompt."""
        return self.grid**2


@dataclass(frozen=True)
class DataSize:
    """Pictures to render; the easy-VQA pictures come in their own, fixed number."""

    train_grids: int = 15000
    test_grids: int = 1500
    train_singles: int = 90
    """Renderings of each emoji."""
    test_singles: int = 20


@dataclass(frozen=True)
class Stage0:
    """Pre-training of the vision encoder and projector with one target for every patch."""

    steps: int = 800
    grids: int = 128
    singles: int = 48
    shapes: int = 48
    """Pictures of each kind in a step."""
    muon_rate: float = 2e-3
    adam_rate: float = 2e-3
    warmup: int = 20
    token_norm: float = 1.6
    """Length of a picture token: that of a word embedding (0.1 a component), so that the decoder
    can read both.
    """
    logit_scale: float = 16.0
    background_weight: float = 0.3
    colour_weight: float = 0.3
    shape_weight: float = 0.3
    corner_weight: float = 0.1
    norm_weight: float = 0.05


@dataclass(frozen=True)
class Phase:
    """A stretch of stage 1. `until` is the share of all steps at which it ends."""

    name: str
    until: float
    min_pictures: int
    """Prompts grow to this size at the phase's start even if the gate has not opened."""
    people: tuple[int, ...]
    """How many names with codes a prompt holds: one of these, drawn uniformly."""
    weights: dict[str, float]
    """How often each task is asked, relative to the others."""


def _weights(**weights: float) -> dict[str, float]:
    """The tasks' weights by name."""
    return weights


# The proportions follow what three hand-made segments found out: bind places to pictures first,
# then names to codes, then bring up the slow tasks while the learning rate falls.
PHASES = (
    Phase(
        "pairs",
        0.25,
        2,
        (1, 1, 1, 2, 3),
        _weights(local=5, corner=2, needle=1, evqa=1.5, code=1.5, describe=0.35),
    ),
    Phase(
        "few",
        0.40,
        4,
        (1, 2, 2, 3),
        _weights(local=5, corner=2, needle=1, evqa=1.5, code=3, describe=0.35),
    ),
    Phase(
        "names",
        0.55,
        8,
        (1, 2, 2, 3),
        _weights(local=4, corner=2, needle=1, evqa=1.5, code=4, describe=0.35),
    ),
    Phase(
        "many",
        0.70,
        12,
        (1, 2, 2, 3),
        _weights(local=4, corner=3, needle=1, evqa=2, code=3, describe=0.8),
    ),
    Phase(
        "polish",
        1.00,
        16,
        (1, 2, 2, 3),
        _weights(local=2.5, corner=4, needle=1, evqa=2.5, code=2.5, describe=1.5),
    ),
)


@dataclass(frozen=True)
class Stage1:
    """Training of projector and decoder on packed prompts; the vision encoder stays frozen."""

    steps: int = 5000
    tokens: int = 4500
    """Tokens of a step, roughly."""
    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    """The curriculum: pictures in a prompt."""
    gate: float = 0.8
    """Moving accuracy of the gate task at which prompts grow."""
    gate_task: str = "local"
    muon_rate: float = 2e-3
    adam_rate: float = 1e-3
    warmup: int = 60
    decay: float = 0.35
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    clip: float = 1.0
    probe_block: int = 1
    picture_probe: float = 0.3
    name_probe: float = 0.3
    probe_tokens: int = 8
    """Tokens of each picture that the picture probe looks at."""
    phases: tuple[Phase, ...] = PHASES


@dataclass(frozen=True)
class Evaluation:
    """Held-out questions: `contexts` prompts of each size, several questions for each."""

    sizes: tuple[int, ...] = (4, 8, 16)
    contexts: int = 60
    seed: int = 20


@dataclass(frozen=True)
class Config:
    """A whole run."""

    out: Path = Path("build/training")
    seed: int = 0
    precision: str = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 where the processor multiplies it natively."""
    compile: bool = True
    threads: int = 0
    """0 leaves torch's own choice."""
    log_seconds: float = 15.0
    save_seconds: float = 60.0
    model: ModelSize = field(default_factory=ModelSize)
    data: DataSize = field(default_factory=DataSize)
    stage0: Stage0 = field(default_factory=Stage0)
    stage1: Stage1 = field(default_factory=Stage1)
    evaluation: Evaluation = field(default_factory=Evaluation)


def smoke(config: Config) -> Config:
    """The same run in a couple of minutes: everything is exercised, nothing is learned."""
    return replace(
        config,
        compile=False,
        log_seconds=2.0,
        data=DataSize(train_grids=300, test_grids=100, train_singles=3, test_singles=2),
        stage0=replace(config.stage0, steps=8, grids=32, singles=12, shapes=12),
        stage1=replace(config.stage1, steps=12, tokens=1500),
        evaluation=replace(config.evaluation, contexts=3),
    )

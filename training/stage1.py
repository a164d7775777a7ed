"""Stage 1: trains projector and decoder on packed prompts; the vision encoder is frozen."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from .config import Config
from .data import Pool
from .grammar import Grammar, Question, pick
from .model import Decoder, VisionEncoder, VisionLanguageModel
from .optim import Optimizers
from .packing import IGNORED, Batch, Packer, right_answers
from .probes import Probes
from .render import Split
from .runtime import Runtime, Timer
from .schedule import Curriculum
from .stage0 import PatchClassifier, Targets
from .tokenizer import word_id
from .words import VISUAL_WORDS

NAME = "stage1"
_WORD_STD = 0.05
_KEY_STD = 0.05


@torch.no_grad()
def start(net: PatchClassifier, tokenizer: Tokenizer, config: Config) -> VisionLanguageModel:
    """The first model of stage 1: stage 0's encoder and projector, a decoder with head starts."""
    torch.manual_seed(config.seed + 1)
    model = VisionLanguageModel(config.model, tokenizer.get_vocab_size())
    model.vision.load_state_dict(net.vision.state_dict())
    model.projector.load_state_dict(net.projector.state_dict())
    embedding = model.decoder.embedding.weight
    embedding.normal_(std=_WORD_STD)
    for word, direction in zip(VISUAL_WORDS, net.directions, strict=False):
        embedding[word_id(tokenizer, word)] = direction * config.stage0.token_norm
    _look_for_the_same(model.decoder)
    return model


def _look_for_the_same(decoder: Decoder) -> None:
    """Makes queries equal keys in the first key-value group of every block.

    Attention then finds similar contents (word and picture, name and name) from the first step on.
    """
    size = decoder.size
    width, sharing = size.head_width, size.heads // size.kv_heads
    for block in decoder.blocks:
        key = block.key.weight[:width].normal_(std=_KEY_STD)
        block.query.weight[: sharing * width] = key.repeat(sharing, 1) + 0.01 * torch.randn(
            sharing * width, size.width
        )


@torch.no_grad()
def encode(runtime: Runtime, vision: VisionEncoder, pool: Pool) -> Tensor:
    """Features of all pictures of a pool, half size: [N, patches, vision_width]."""
    with runtime.autocast():
        return torch.cat(
            [vision(part).bfloat16() for part in torch.from_numpy(pool.pixels).split(512)]
        )


class Step:
    """One training step's forward pass."""

    def __init__(self, runtime: Runtime, model: VisionLanguageModel, features: Tensor) -> None:
        self.runtime, self.model, self.features = runtime, model, features
        self.decoder = (
            torch.compile(model.decoder, dynamic=True) if runtime.config.compile else model.decoder
        )

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, likeliest next tokens [B, T] at targets, and probed states [B, T, width]."""
        with self.runtime.autocast():
            embedded = self.model.embed(batch.ids, self.features[batch.pictures].float())
            tap = self.runtime.config.stage1.probe_block
            hidden, tapped = self.decoder(embedded, batch.positions, batch.mask, tap)
            asked = batch.targets != IGNORED
            logits = self.model.decoder.logits(hidden[asked]).float()
        predicted = torch.full_like(batch.targets, -1)
        predicted[asked] = logits.detach().argmax(-1)
        return F.cross_entropy(logits, batch.targets[asked]), predicted, tapped


class Batches:
    """The training batches: a function of seed, step and the curriculum's state."""

    def __init__(
        self, config: Config, pool: Pool, tokenizer: Tokenizer, curriculum: Curriculum
    ) -> None:
        self.config, self.curriculum = config, curriculum
        self.grammar = Grammar(pool)
        self.packer = Packer(tokenizer, config.model.picture_tokens)

    def draw(self, step: int) -> tuple[int, Batch, random.Random]:
        """Pictures in each prompt, the batch, and the step's random numbers."""
        rng = random.Random(f"{self.config.seed} stage 1 {step}")
        phase = self.curriculum.phase(step)
        size = self.curriculum.draw_size(rng)
        rows, count = self.curriculum.batch_shape(size, self.config.model.picture_tokens)
        contexts = [self.grammar.context(rng, size, rng.choice(phase.people)) for _ in range(rows)]
        questions: list[list[Question]] = [
            pick(rng, context, count, phase.weights) for context in contexts
        ]
        return size, self.packer.batch(contexts, questions), rng


def run(
    runtime: Runtime, pools: dict[Split, Pool], net: PatchClassifier, tokenizer: Tokenizer
) -> VisionLanguageModel:
    """Trains (or resumes, or just loads) the stage."""
    config, stage = runtime.config, runtime.config.stage1
    model = start(net, tokenizer, config)
    model.vision.requires_grad_(False)
    probes = Probes(config, tokenizer, Targets(pools["train"], config.model.grid))
    optimizers = Optimizers([model, probes], stage.muon_rate, stage.adam_rate, runtime.dtype)
    curriculum = Curriculum(stage)
    first = 0
    if state := runtime.load(NAME):
        model.load_state_dict(state["model"])
        probes.load_state_dict(state["probes"])
        optimizers.load_state(state["optimizers"])
        curriculum.load_state(state["curriculum"])
        first = state["step"]
    if first >= stage.steps:
        return model

    runtime.log("computing the picture features")
    forward = Step(runtime, model, encode(runtime, model.vision, pools["train"]))
    batches = Batches(config, pools["train"], tokenizer, curriculum)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    log, save, seen = Timer(config.log_seconds), Timer(config.save_seconds), 0

    def checkpoint(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "probes": probes.state_dict(),
            "optimizers": optimizers.state(),
            "curriculum": curriculum.state(),
            "step": step,
        }
        runtime.save(NAME, state)

    with runtime.steps("stage 1: decoder", first, stage.steps) as steps:
        for step in steps:
            if why := curriculum.advance(step):
                runtime.log(f"stage 1 step {step}: up to {curriculum.largest} pictures ({why})")
            size, batch, rng = batches.draw(step)
            loss, predicted, tapped = forward(batch)
            probe = probes.loss(tapped, batch, rng)
            (loss + probe).backward()
            torch.nn.utils.clip_grad_norm_(trained, stage.clip)
            optimizers.step(curriculum.rate_factor(step))
            curriculum.observe(size, right_answers(predicted, batch))
            seen += batch.ids.numel()
            if log.due():
                shares = " ".join(
                    f"{name}: {share:.2f};" for name, share in sorted(curriculum.accuracy.items())
                )
                losses = f"loss {loss.item():.3f} probes {probe.item():.2f}"
                progress = f"step {step + 1}/{stage.steps} {seen} tokens"
                runtime.log(
                    f"stage 1 {progress} up to {curriculum.largest} pictures {losses} {shares}"
                )
            if save.due():
                checkpoint(step + 1)
    checkpoint(stage.steps)
    return model

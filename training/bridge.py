"""`python -m training.bridge`: a projector with which any GGUF language model reads our pictures.

The language model stays as it is. The vision encoder tells what each patch shows, and the projector
says it in the model's own words: a patch becomes the word embedding of what it shows. No picture
ever passes through the language model, so this takes minutes on two cores. With --finetune, the
projector is then trained through the language model, which takes as long as one likes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from lookm_cpp import _core
from torch import Tensor, nn

from . import data, large
from .config import Config, ModelSize
from .data import SHAPE, Pool
from .export import read_vision, write_vision
from .model import Projector, VisionEncoder
from .render import BACKGROUND
from .runtime import Runtime
from .words import EMOJI

SMALL_TOWER = (
    Path(__file__).resolve().parent.parent
    / "python" / "lookm_cpp" / "models" / "mmproj-tiny-llava-f16.gguf"
)  # fmt: skip
BACKGROUND_WORD = "."
HIDDEN = 384  # width of the projector's first layer


@dataclass(frozen=True)
class Patches:
    """Encoded patches: features [n, vision_width], and what each shows, an index into phrases."""

    features: Tensor
    labels: Tensor


def phrases_of(pool: Pool, names: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    """What a patch may show, in words, background last; and the number of it for each patch.

    An emoji, a digit or a word is its own name; a shape of easy-VQA is "red circle".
    """
    shapes = sorted({" ".join(p.names) for p in pool.pictures if p.kind == "shape"})
    phrases = [*names, *shapes, BACKGROUND_WORD]
    of_picture = np.array(
        [phrases.index(" ".join(p.names)) if p.kind == "shape" else -1 for p in pool.pictures]
    )
    labels = pool.labels.astype(np.int64)
    labels = np.where(labels == SHAPE, of_picture[:, None], labels)
    return phrases, np.where(labels == BACKGROUND, len(phrases) - 1, labels)


@torch.no_grad()
def encode(runtime: Runtime, encoder: VisionEncoder, pool: Pool, labels: np.ndarray) -> Patches:
    """Runs the encoder over a pool."""
    found = []
    for start in range(0, len(pool.pixels), 256):
        with runtime.autocast():
            found.append(encoder(torch.from_numpy(pool.pixels[start : start + 256])).float())
    return Patches(torch.cat(found).flatten(0, 1), torch.from_numpy(labels).flatten())


def fit(patches: Patches, n_phrases: int, steps: int, seed: int) -> tuple[nn.Linear, Tensor]:
    """The first layer, and the ridge regression [n_phrases, HIDDEN + 1] of phrases on it.

    The first layer is trained as that of a classifier of patches. What follows it is then replaced
    by the least-squares map to one 1 and zeros (the bias is its last column): coefficients of words
    instead of logits.
    """
    torch.manual_seed(seed)
    first = nn.Linear(patches.features.shape[1], HIDDEN)
    head = nn.Linear(HIDDEN, n_phrases)
    optimizer = torch.optim.AdamW([*first.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    weights = torch.ones(n_phrases)
    weights[-1] = 0.3  # most patches are background
    for _ in range(steps):
        which = torch.randint(len(patches.labels), (4096,))
        hidden = F.gelu(first(patches.features[which]), approximate="tanh")
        loss = F.cross_entropy(head(hidden), patches.labels[which], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        gram = torch.zeros(HIDDEN + 1, HIDDEN + 1, dtype=torch.float64)
        moment = torch.zeros(HIDDEN + 1, n_phrases, dtype=torch.float64)
        for start in range(0, len(patches.labels), 1 << 16):
            x = _with_one(first, patches.features[start : start + (1 << 16)]).double()
            y = F.one_hot(patches.labels[start : start + (1 << 16)], n_phrases).double()
            gram += x.T @ x
            moment += x.T @ y
        gram += 1e-4 * gram.diagonal().mean() * torch.eye(HIDDEN + 1, dtype=torch.float64)
        return first, torch.linalg.solve(gram, moment).T.float()


def _with_one(first: nn.Linear, features: Tensor) -> Tensor:
    hidden = F.gelu(first(features), approximate="tanh")
    return torch.cat([hidden, torch.ones(len(hidden), 1)], 1)


def word_embeddings(llm: Path, phrases: list[str]) -> Tensor:
    """The language model's embedding of each phrase, the mean of its tokens': [n, width]."""
    session = _core.Session(_core.ModelOptions(model_path=str(llm), n_gpu_layers=0, n_ctx=64))
    table = next(t for t in gguf.GGUFReader(llm).tensors if t.name == "token_embd.weight")
    rows = []
    for phrase in phrases:
        tokens = session.tokens_of(phrase if phrase == BACKGROUND_WORD else f" {phrase}")
        rows.append(gguf.dequantize(table.data[tokens], table.tensor_type).mean(0))
    session.close()
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def folded(first: nn.Linear, regression: Tensor, embeddings: Tensor) -> Projector:
    """Both maps as one projector: patch features -> coefficients of words -> embeddings."""
    projector = Projector(first.in_features, HIDDEN, embeddings.shape[1])
    with torch.no_grad():
        projector.first.weight.copy_(first.weight)
        projector.first.bias.copy_(first.bias)
        second = embeddings.T @ regression
        projector.second.weight.copy_(second[:, :-1])
        projector.second.bias.copy_(second[:, -1])
    return projector


@torch.no_grad()
def accuracy(projector: Projector, patches: Patches, embeddings: Tensor) -> tuple[float, float]:
    """Share of patches whose token is most similar to the right phrase: objects, background."""
    directions = F.normalize(embeddings, dim=1)
    hits, n = np.zeros(2), np.zeros(2)
    for start in range(0, len(patches.labels), 1 << 15):
        wanted = patches.labels[start : start + (1 << 15)]
        tokens = F.normalize(projector(patches.features[start : start + (1 << 15)]), dim=1)
        hit = (tokens @ directions.T).argmax(1) == wanted
        empty = wanted == len(embeddings) - 1
        hits += [hit[~empty].sum().item(), hit[empty].sum().item()]
        n += [(~empty).sum().item(), empty.sum().item()]
    objects, background = hits / n
    return float(objects), float(background)


def main() -> None:
    """Makes the projector, checks it on the held-out pictures, writes it."""
    arguments = _arguments()
    big = arguments.pictures == "large"
    size = ModelSize(image=large.IMAGE) if big else ModelSize()
    config = Config(out=arguments.out, seed=arguments.seed, model=size, threads=arguments.threads)
    runtime = Runtime(config)
    pools = large.prepare(config, runtime.log) if big else data.prepare(config, runtime.log)
    names = large.NAMES if big else tuple(EMOJI)
    encoder = large.tower(runtime, pools) if big else read_vision(SMALL_TOWER, size)
    phrases, labels = phrases_of(pools["train"], names)
    keep = np.random.default_rng(arguments.seed).permutation(len(labels))[
        : arguments.train_pictures
    ]
    train = Pool(pools["train"].pixels[keep], labels[keep], [])
    runtime.log(f"encoding {len(keep)} pictures")
    patches = encode(runtime, encoder, train, labels[keep])
    runtime.log(f"fitting {len(phrases)} phrases to {len(patches.labels)} patches")
    first, regression = fit(patches, len(phrases), arguments.steps, arguments.seed)
    embeddings = word_embeddings(arguments.model, phrases)
    projector = folded(first, regression, embeddings)
    if arguments.finetune:
        import_module("training.finetune").finetune(  # needs transformers
            projector,
            patches.features.unflatten(0, (len(keep), -1)),
            Pool(train.pixels, train.labels, [pools["train"].pictures[i] for i in keep]),
            arguments.model,
            large=big,
            steps=arguments.finetune,
            rate=arguments.rate,
            seed=arguments.seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            log=runtime.log,
        )
    test_phrases, test_labels = phrases_of(pools["test"], names)
    assert test_phrases == phrases
    objects, empty = accuracy(
        projector, encode(runtime, encoder, pools["test"], test_labels), embeddings
    )
    runtime.log(f"held-out patches: {objects:.1%} of objects, {empty:.1%} of the background")
    write_vision(encoder, projector, size, arguments.output)
    runtime.log(f"wrote {arguments.output}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.bridge", description=__doc__)
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="the GGUF language model")
    add("-o", "--output", type=Path, required=True, help="the mmproj file to write")
    add(
        "--pictures", choices=("small", "large"), default="small",
        help="64 x 64 in 64 cells, or 128 x 128 in 256 cells",
    )  # fmt: skip
    add("--out", type=Path, default=Path("build/training"), help="folder of pictures and tower")
    add("--train-pictures", type=int, default=8000)
    add("--steps", type=int, default=600, help="steps of the patch classifier")
    add(
        "--finetune", type=int, default=0, metavar="STEPS",
        help="train the projector through the language model, with so many contexts",
    )  # fmt: skip
    add("--rate", type=float, default=1e-5, help="learning rate of --finetune")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=0, help="threads of torch (default: its own choice)")
    return parser.parse_args()


if __name__ == "__main__":
    main()

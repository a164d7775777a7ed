"""Trains a projector further: errors in answers pass back through the frozen language model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from lookm_cpp import _core
from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context
from PIL import Image
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from .data import Pool
from .model import Projector, VisionEncoder
from .optim import Optimizers
from .runtime import Runtime

MARK = "[answer 7d1f0c]"  # around each answer, in a template's text
PICTURE = -1  # in place of a token
RATE = 2e-4
WARM_UP = 10
RAMP_DOWN = 20

MakeContext = Callable[[list[Picture], int, int], Context]


class Reader:
    """Reads prompts as the language model will: its own template and tokens."""

    def __init__(self, llm: Path, picture_tokens: int) -> None:
        self._session = _core.Session(
            _core.ModelOptions(model_path=str(llm), n_gpu_layers=0, n_ctx=64)
        )
        self._picture = [PICTURE] * picture_tokens

    def close(self) -> None:
        """Frees the model."""
        self._session.close()

    def read(self, context: Context) -> tuple[Tensor, Tensor]:
        """A conversation that asks all of a context's questions, one after the other.

        Returns tokens int64 [T], `PICTURE` for those of pictures, and int64 [T]: the number of the
        answer, from 1, that a token belongs to, or 0. What an answer is made to begin with has 0.
        """
        messages = []
        for number, question in enumerate(context.questions):
            asked = question.text if number else f"{context.text}{question.text}"
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": _answered(question)})
        last = messages.pop()
        text = self._session.apply_template(json.dumps(messages)) + last["content"]
        begin = self._session.begin_token
        ids, answers = ([], []) if begin is None else ([begin], [0])
        for number, part in enumerate(text.split(MARK), start=1):
            found = self._tokens(part)
            ids += found
            answers += [0 if number % 2 else number // 2] * len(found)
        return torch.tensor(ids), torch.tensor(answers)

    def _tokens(self, text: str) -> list[int]:
        first, *others = (
            self._session.tokens_of(part, control=True) for part in text.split(PLACEHOLDER)
        )
        return [*first, *(token for part in others for token in (*self._picture, *part))]


def _answered(question: FactsQuestion) -> str:
    said = f"{question.answer}{question.ends}" if question.ends else f" {question.answer}"
    return f"{question.begins}{MARK}{said}.{MARK}"


def finetune(
    projector: Projector,
    encoder: VisionEncoder,
    pool: Pool,
    llm: Path,
    make_context: MakeContext,
    runtime: Runtime,
    steps: int,
) -> None:
    """Trains the projector for `steps` conversations about the pool's pictures, one a step.

    Goes on from the checkpoint of a shorter run with the same model. The language model is read by
    transformers, its weights dequantized, on a GPU if there is one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = Reader(llm, pool.labels.shape[1])
    model = AutoModelForCausalLM.from_pretrained(
        llm.parent, gguf_file=llm.name, dtype=torch.float32
    )
    model.requires_grad_(requires_grad=False).to(device)
    pictures = [
        Picture(known.kind, known.names, known.questions, Image.fromarray(pixels))
        for known, pixels in zip(pool.pictures, pool.pixels, strict=True)
    ]

    def loss_of(step: int) -> Tensor:
        context = make_context(pictures, step, runtime.config.seed)
        ids, answers = reader.read(context)
        with torch.no_grad():
            features = encoder(torch.stack([_pixels(image) for image in context.images]))
        words = model.get_input_embeddings()(ids.clamp(min=0).to(device))
        tokens = projector(features).flatten(0, 1).to(device)
        embeddings = words.masked_scatter((ids == PICTURE)[:, None].to(device), tokens)
        return answer_loss(model, embeddings, ids.to(device), answers.to(device))

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / WARM_UP, (steps - step) / RAMP_DOWN)

    optimizers = Optimizers([projector], RATE, RATE, runtime.dtype)
    runtime.train(f"finetune-{llm.stem}", projector, optimizers, steps, loss_of, rate)
    reader.close()


def answer_loss(model: PreTrainedModel, embeddings: Tensor, ids: Tensor, answers: Tensor) -> Tensor:
    """The mean over answers of their tokens' mean cross-entropy, so that short ones count as much.

    embeddings [T, width], ids and answers [T] as `Reader.read` returns them.
    """
    of = answers[1:][answers[1:] > 0]
    hidden = model.base_model(inputs_embeds=embeddings[None]).last_hidden_state[0]
    logits = model.get_output_embeddings()(hidden[:-1][answers[1:] > 0])
    losses = F.cross_entropy(logits.float(), ids[1:][answers[1:] > 0], reduction="none")
    return torch.stack([losses[of == number].mean() for number in of.unique()]).mean()


def _pixels(image: Image.Image) -> Tensor:
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(
        image.height, image.width, 3
    )

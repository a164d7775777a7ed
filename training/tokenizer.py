"""The byte-level BPE tokenizer of the decoder (llama.cpp: model gpt2, pre-tokenizer gpt-2)."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from . import easyvqa
from .words import COLOURS, CORNERS, EMOJI, MAX_PICTURES, PEOPLE, SHAPES, VISUAL_WORDS, with_article

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"


def train() -> Tokenizer:
    """Learns the merges from the prompt grammar; the result depends on nothing random."""
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=1536,  # more than the grammar has merges for: 616 are reached
        min_frequency=1,
        special_tokens=[UNKNOWN, BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    for word in (*VISUAL_WORDS, *PEOPLE, *map(str, range(1, MAX_PICTURES + 1))):
        word_id(tokenizer, word)
    return tokenizer


def from_vocabulary(tokens: list[str], merges: list[str]) -> Tokenizer:
    """The tokenizer from tokens (by id) and merges ("left right"), as a GGUF file has them."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = _byte_level(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.add_special_tokens([UNKNOWN, BEGIN, END])
    return tokenizer


def word_id(tokenizer: Tokenizer, word: str) -> int:
    """Id of the one token that is `word` behind a space."""
    ids = tokenizer.encode(f" {word}").ids
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens; the training needs it to be one")
    return ids[0]


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _corpus() -> list[str]:
    """Every word, number and template, but no codes: their digits must stay single tokens."""
    rng = random.Random(1)
    lines: list[str] = []
    for _ in range(40):
        for name in EMOJI:
            lines += _templates(name, rng)
    answers = [*COLOURS, *SHAPES, "yes", "no"]
    for question in easyvqa.question_texts():
        for _ in range(20):
            picture = rng.randint(1, MAX_PICTURES)
            lines.append(
                f" In image {picture}, {question} ASSISTANT: The answer is {rng.choice(answers)}."
            )
    return lines


def _templates(name: str, rng: random.Random) -> list[str]:
    """The sentences of the grammar, filled in for one emoji."""
    one, other = rng.randint(1, MAX_PICTURES), rng.randint(1, MAX_PICTURES)
    person, corner = rng.choice(PEOPLE), rng.choice(CORNERS)
    noun = with_article(name)
    first, second, third = (with_article(word) for word in rng.sample(EMOJI, 3))
    return [
        f"USER: Image {one}: Image {other}: The code of {person} is",
        f" What is in image {one}? ASSISTANT: Image {one} shows {noun}.",
        f" What is at the {corner} of image {one}? ASSISTANT: "
        f"The {corner} of image {one} shows {noun}.",
        f" Which corner of image {one} shows the {name}? ASSISTANT: "
        f"The {name} is at the {corner} of image {one}.",
        f" What is the code of {person}? ASSISTANT: The code of {person} is",
        " Describe all images. ASSISTANT:",
        f" Image {one} shows {noun}, {first}, {second} and {third}.",
        f" Image {one} shows a {rng.choice(COLOURS)} {rng.choice(SHAPES)}.",
    ]

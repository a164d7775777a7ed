"""Auxiliary probes of stage 1: they make early blocks bind what attention looks up.

They are dropped afterwards. Without the name probe, prompts with several names stay at guessing for
hundreds of steps; with it they are learned.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from .config import Config
from .packing import IGNORED, Batch
from .stage0 import Targets
from .tokenizer import word_id
from .words import EMOJI, MAX_PICTURES, PEOPLE

_DIGITS = 4


class Probes(nn.Module):
    """Reads hidden states behind an early block.

    From tokens of a picture: its place in the prompt, its quadrant, the class of the token's patch.
    From the digits of a code: whose code it is.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, targets: Targets) -> None:
        super().__init__()
        self.config = config
        width = config.model.width
        self.place_head, self.class_head = (
            nn.Linear(width, MAX_PICTURES),
            nn.Linear(width, len(EMOJI)),
        )
        self.quadrant_head, self.person_head = nn.Linear(width, 4), nn.Linear(width, len(PEOPLE))
        self.classes = targets.classes.masked_fill(targets.classes >= len(EMOJI), IGNORED)
        self.quadrants = targets.rows * 2 + targets.columns
        self.people = torch.tensor([word_id(tokenizer, person) for person in PEOPLE])
        self.is_word = word_id(tokenizer, "is")

    def loss(self, hidden: Tensor, batch: Batch, rng: random.Random) -> Tensor:
        """hidden [B, T, width] -> the weighted sum of both probes' losses."""
        stage = self.config.stage1
        normed = F.rms_norm(hidden.float(), hidden.shape[-1:], eps=self.config.model.eps)
        return stage.picture_probe * self._picture(
            normed, batch, rng
        ) + stage.name_probe * self._name(normed, batch)

    def _picture(self, hidden: Tensor, batch: Batch, rng: random.Random) -> Tensor:
        patches = self.config.model.picture_tokens
        chosen = torch.tensor(rng.sample(range(patches), self.config.stage1.probe_tokens))
        count, rows = len(batch.pictures), len(batch.ids)
        states = hidden[batch.ids < 0].view(count, patches, -1)[:, chosen].flatten(0, 1)
        places = torch.arange(count // rows).repeat(rows).repeat_interleave(len(chosen))
        classes = self.classes[batch.pictures][:, chosen].flatten()
        loss = F.cross_entropy(self.place_head(states), places)
        loss = loss + 0.5 * F.cross_entropy(
            self.quadrant_head(states), self.quadrants[chosen].repeat(count)
        )
        if (classes >= 0).any():
            loss = loss + F.cross_entropy(self.class_head(states), classes)
        return loss

    def _name(self, hidden: Tensor, batch: Batch) -> Tensor:
        owners = self.code_owners(batch.ids)
        known = owners >= 0
        if not known.any():
            return hidden.new_zeros(())
        return F.cross_entropy(self.person_head(hidden[known]), owners[known])

    def code_owners(self, ids: Tensor) -> Tensor:
        """The person behind every digit in "<person> is <digits>", else IGNORED: [B, T]."""
        owners = torch.full_like(ids, IGNORED)
        reach = _DIGITS + 1
        heads = ids[:, :-reach]
        follows = ids[:, 1:-_DIGITS] == self.is_word
        row, place, person = ((heads[..., None] == self.people) & follows[..., None]).nonzero(
            as_tuple=True
        )
        for offset in range(2, 2 + _DIGITS):
            owners[row, place + offset] = person
        return owners

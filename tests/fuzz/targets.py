"""All classes of inputs, and their shares of a campaign."""

from __future__ import annotations

from fuzz.gguf_files import Models, Projectors
from fuzz.messages import Messages
from fuzz.options import Options
from fuzz.pictures import Pictures
from fuzz.raw_bytes import RawBytes
from fuzz.requests import Requests
from fuzz.slot_files import SlotFiles
from fuzz.state_files import StateFiles
from fuzz.target import Target

SHARES: dict[Target, float] = {
    Messages(): 30,
    Options(): 24,
    Pictures(): 15,
    Requests(): 10,
    RawBytes(): 10,
    StateFiles(): 5,
    SlotFiles(): 3,
    Models(): 1.5,
    Projectors(): 1.5,
}
"""Percent of all inputs: fewer where one takes longer."""

TARGETS = {target.name: target for target in SHARES}

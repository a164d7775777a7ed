"""Requests to servers of the zoo's tiny random models."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from zoo.pairs import PAIRS, Files

from server.servers import Json, Server

TEXT = "A<image>B and <image> are two images; which of them is it?"
N_PREDICT = 4


def pictures_of(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for width, height in PAIRS[name].images
    ]


def png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def opening(files: Files) -> tuple[str, ...]:
    return ("-m", str(files.model), "--mmproj", str(files.mmproj))


def ask(server: Server, pictures: list[np.ndarray], text: str = TEXT, **options: object) -> Json:
    marker = server.http.get("/props").json()["media_marker"]
    prompt = {
        "prompt_string": text.replace("<image>", marker),
        "multimodal_data": [png(p) for p in pictures],
    }
    greedy = {"n_predict": N_PREDICT, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return server.post("/completion", prompt=prompt, **(greedy | options))

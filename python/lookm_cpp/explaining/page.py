"""One self-contained page: template, style, script and data."""

from __future__ import annotations

import base64
import codecs
import html
import io
import json
import zlib
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.explaining.cells import ExplainedPrompt, Ints, MethodCells
from lookm_cpp.explaining.colours import DARK, LIGHT, OVER_KEPT, PADDING, Theme, css
from lookm_cpp.explaining.views import View, piece_names, views_of

LARGEST = 640
"""Longest side of a picture on the page, in pixels."""
N_MERGES = 3
"""Number of kept cells named for an evicted one: those it was merged into most often."""


def page(explanation: ExplainedPrompt) -> str:
    """HTML that loads nothing from elsewhere.

    The data is compressed and base64-encoded, so none of it can be parsed as markup.
    """
    data = json.dumps(_data(explanation), separators=(",", ":")).encode()
    style = Template(_file("page.css")).substitute(light=_colours(LIGHT), dark=_colours(DARK))
    return Template(_file("page.html")).substitute(
        title=html.escape(f"{shown(explanation.question)} - lookm explain"),
        style=style,
        data=base64.b64encode(zlib.compress(data, 9)).decode(),
        script=_file("page.js"),
    )


def shown(question: str) -> str:
    """The text after the last image, or the whole question if there is none."""
    *_, last = question.split(PLACEHOLDER)
    return " ".join(last.split()) or " ".join(question.replace(PLACEHOLDER, " ").split())


def _file(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _colours(theme: Theme) -> str:
    named = {
        "page": theme.page,
        "card": theme.card,
        "line": theme.line,
        "ink": theme.ink,
        "faint": theme.faint,
    }
    named |= {"accent": theme.scale[3], "focus": theme.focus, "pad": PADDING}
    named |= {"pruned": theme.pruned}
    scale = ",".join(css(colour) for colour in theme.scale)
    return (
        "".join(f"--{name}:{css(colour)};" for name, colour in named.items())
        + f"--scale:{scale};--over-evicted:{theme.over_evicted};"
    )


def _data(e: ExplainedPrompt) -> dict[str, Any]:
    stats = e.stats
    context = f", {stats.context_cells} context" if stats.context_cells else ""
    cells = f"{stats.text_cells} text, {stats.image_cells} image{context}"
    return {
        "question": shown(e.question),
        "about": f"{e.model} · {stats.prompt_cells} cells: {cells}",
        "answer": e.answer,
        "cells": stats.prompt_cells,
        "over": OVER_KEPT,
        "images": [_data_uri(image) for image in e.images],
        "views": [_view(view) for view in views_of(e)],
        "tokens": _tokens(e),
        "methods": [_method(method) for method in e.methods],
    }


def _data_uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    if max(image.size) <= 128:
        small.save(file, "PNG", optimize=True)
    else:
        small.save(file, "JPEG", quality=85)
    kind = "png" if max(image.size) <= 128 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _view(view: View) -> dict[str, Any]:
    return {
        "image": view.image,
        "title": view.title,
        "picture": view.has_picture,
        "aspect": view.aspect,
        "frame": view.frame,
        "boxes": [
            {"cells": box.cells, "box": [round(side, 6) for side in box.box]} for box in view.boxes
        ],
        "pruned": [[round(side, 6) for side in box] for box in view.pruned],
        "apart": view.apart,
    }


def _tokens(e: ExplainedPrompt) -> list[list[Any]]:
    """For each cell: number, text, image (-1: none), evictable, column, row, name of its piece.

    Only cells of contexts are marked as evictable; those of images always are.
    """
    names = piece_names(e)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    out = []
    for cell, (piece, (x, y)) in enumerate(zip(e.piece.tolist(), e.place.tolist(), strict=True)):
        image = e.pieces[piece].image if piece >= 0 else -1
        evictable = piece < 0 and not e.is_text[cell]
        name = names[piece] if piece >= 0 else ""
        out.append([cell, decoder.decode(e.text[cell]), image, evictable, x, y, name])
    return out


def _method(method: MethodCells) -> dict[str, Any]:
    return {
        "name": method.method,
        "answer": method.answer,
        "note": method.stats.note,
        "kept": method.stats.kept_cells,
        "merges": _most_frequent(method.merges()),
        "layers": [
            {
                "il": layer.il,
                "heads": len(layer.kept),
                "kept": layer.times_kept().tolist(),
                "merges": _most_frequent(method.merges(i)),
            }
            for i, layer in enumerate(method.layers)
        ],
    }


def _most_frequent(merges: Ints) -> list[list[int]]:
    """The first few merges of each evicted cell."""
    if not len(merges):
        return []
    starts = np.flatnonzero(np.r_[True, merges[1:, 0] != merges[:-1, 0]])
    rank = np.arange(len(merges)) - np.repeat(starts, np.diff(np.r_[starts, len(merges)]))
    rows: list[list[int]] = merges[rank < N_MERGES].tolist()
    return rows

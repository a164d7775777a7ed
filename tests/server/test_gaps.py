"""A client drops an image from the middle of its prompt (``--kv-keep-after-gap``).

The images after it keep their cells, rotated to the positions that they have now. In a model where
only the last layer attends, a cell's K and V depend on its own token and position. There the answer
must be that of the prompt read from its start, up to the rounding of keys that are rotated twice.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from lookm_cpp.embedded import DemoPrompt
from zoo.decoder_table import DECODERS
from zoo.decoders import TEMPLATE, write_decoder
from zoo.encoder_table import ENCODERS
from zoo.encoders import write_encoder
from zoo.gguf_file import Metadata
from zoo.pairs import PAIRS, Files, write_pair

from server.random_models import ask, opening
from server.servers import Json, Server, asked, refused, running

KEEP = ("--kv-keep-after-gap", "--kv-ratio", "0.5", "-c", "2048")
PLAIN = ["llava-1.5", "llava-1.6", "qwen2-vl", "qwen3-vl", "glm-4v", "cogvlm", "phi-4"]
QUESTION = " Which of them is it?"


def write_shallow(name: str, folder: Path, metadata: Metadata | None = None) -> Files:
    """A pair of the zoo in which only the last layer attends."""
    pair = PAIRS[name]
    decoder = DECODERS[pair.decoder]
    decoder = replace(decoder, metadata={**decoder.metadata, **(metadata or {})})
    model = write_decoder(folder / "model.gguf", decoder, list(pair.special_tokens), TEMPLATE)
    for tensor in GGUFReader(model, "r+").tensors:
        last = f"blk.{decoder.n_layer - 1}."
        if tensor.name.endswith("attn_output.weight") and not tensor.name.startswith(last):
            tensor.data[:] = 0
    return Files(model, write_encoder(folder / "mmproj.gguf", ENCODERS[name]))


def pictures(name: str, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(6)
    sizes = [PAIRS[name].images[i % 2] for i in range(n)]
    return [rng.integers(0, 256, (high, wide, 3), dtype=np.uint8) for wide, high in sizes]


def text_of(names: str) -> str:
    return "Images: " + " ".join(f"{name}<image>" for name in names) + QUESTION


def probabilities(answer: Json) -> list[tuple[int, float]]:
    return [
        (one["id"], one["logprob"])
        for token in answer.get("completion_probabilities", [])
        for one in token["top_logprobs"]
    ]


def ask_before_and_after(
    server: Server, images: list[np.ndarray], dropped: tuple[int, ...], between: str = ""
) -> tuple[Json, Json]:
    """The answers about what is left, with an earlier prompt about all, and alone."""
    left = [i for i in range(len(images)) if i not in dropped]
    ask(server, images, text=text_of("abcdef"[: len(images)]), id_slot=0)
    text = text_of("".join("abcdef"[i] for i in left)).replace("Images:", "Images:" + between)
    asking = {"text": text, "id_slot": 0, "n_probs": 5, "n_predict": 4}
    after = ask(server, [images[i] for i in left], **asking)
    alone = ask(server, [images[i] for i in left], **asking, cache_prompt=False)
    return after, alone


def check(after: Json, alone: Json, n_kept: int, accuracy: float) -> None:
    assert after["timings"]["cache_n"] >= n_kept
    assert alone["timings"]["cache_n"] == 0
    for field in ("prompt_cells", "kept_cells"):
        assert after["timings"][field] == alone["timings"][field]
    assert after["tokens"] == alone["tokens"]
    one, other = dict(probabilities(after)), dict(probabilities(alone))
    assert one.keys() == other.keys()
    for token, logprob in one.items():
        assert logprob == pytest.approx(other[token], abs=accuracy)


@pytest.mark.parametrize("name", PLAIN)
def test_same_as_read_anew(name: str, folder: Path, tmp_path: Path) -> None:
    files = write_shallow(name, tmp_path)
    images = pictures(name, 4)
    first, second = PAIRS[name].tiles
    with running(folder, *opening(files), *KEEP) as server:
        after, alone = ask_before_and_after(server, images, dropped=(1,))
        check(after, alone, 2 * sum(first) + sum(second), accuracy=2e-3)
        assert server.metrics()["lookm:images_taken_total"] == len(first) + len(second)


@pytest.mark.parametrize(
    ("dropped", "between"),
    [
        ((0,), ""),
        ((0, 1, 3), ""),
        ((1, 2), " One is gone."),
        ((0, 2), " Now there are fewer of them:"),
    ],
)
def test_what_a_client_drops(
    dropped: tuple[int, ...], between: str, folder: Path, tmp_path: Path
) -> None:
    """Any images, with other text in their place, which is read."""
    files = write_shallow("qwen2-vl", tmp_path)
    n = [sum(tiles) for tiles in PAIRS["qwen2-vl"].tiles]
    left = [n[i % 2] for i in range(5) if i not in dropped]
    with running(folder, *opening(files), *KEEP) as server:
        after, alone = ask_before_and_after(server, pictures("qwen2-vl", 5), dropped, between)
        check(after, alone, sum(left), accuracy=2e-3)


@pytest.mark.parametrize(
    ("flags", "accuracy"),
    [
        (("-fa", "off"), 2e-3),  # V is transposed
        (("-np", "2", "--no-kv-unified"), 2e-3),  # a stream for each slot
        (("-ctk", "f32", "-ctv", "f32"), 1e-4),
        (("-ctk", "q8_0", "-ctv", "q8_0"), 3e-2),  # keys are transformed before they are quantized
        (("--kv-prefix-type", "q8_0"), 3e-2),
        (("--kv-prefix-type", "f32", "-fa", "off"), 2e-3),
        (("--image-ratio", "0.5"), 2e-3),  # positions with gaps
        (("--kv-method", "snapkv"), 2e-3),
        (("-ub", "32", "-b", "64"), 2e-3),
    ],
)
def test_flags(flags: tuple[str, ...], accuracy: float, folder: Path, tmp_path: Path) -> None:
    files = write_shallow("llava-1.5", tmp_path)
    n = 32 if "--image-ratio" in flags else 64
    n_kept = 2 * n if "snapkv" in flags else 3 * n  # whose window reaches into the last image
    slot = {"id_slot": 1} if "-np" in flags else {"id_slot": 0}
    with running(folder, *opening(files), *KEEP, *flags) as server:
        ask(server, pictures("llava-1.5", 4), text=text_of("abcd"), **slot)
        images = [pictures("llava-1.5", 4)[i] for i in (0, 2, 3)]
        asking = {"text": text_of("acd"), "n_probs": 5, **slot}
        after = ask(server, images, **asking)
        check(after, ask(server, images, **asking, cache_prompt=False), n_kept, accuracy)


@pytest.mark.parametrize(
    "metadata",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 256,
        },
        {"rope.dimension_count": 16},  # the other half of a head has no position
    ],
    ids=["linear", "yarn", "partial"],
)
def test_rotations(metadata: Metadata, folder: Path, tmp_path: Path) -> None:
    files = write_shallow("phi-4", tmp_path, metadata)
    with running(folder, *opening(files), *KEEP) as server:
        after, alone = ask_before_and_after(server, pictures("phi-4", 4), dropped=(0, 1))
        check(after, alone, 96 + 98, accuracy=2e-3)


def test_only_what_stands_in_the_same_order(folder: Path, tmp_path: Path) -> None:
    """One of two images that have changed places is read; so is a new one."""
    files = write_shallow("llava-1.5", tmp_path)
    images = pictures("llava-1.5", 5)
    with running(folder, *opening(files), *KEEP) as server:
        ask(server, images[:4], text=text_of("abcd"), id_slot=0)
        turned = [images[i] for i in (1, 0, 4, 3)]
        asking = {"text": text_of("baed"), "id_slot": 1, "n_probs": 5}
        after = ask(server, turned, **asking)
        assert server.metrics()["lookm:images_taken_total"] == 2
        check(after, ask(server, turned, **asking, cache_prompt=False), 2 * 64, accuracy=2e-3)


def test_it_is_off_by_default(folder: Path, tmp_path: Path) -> None:
    files = write_shallow("llava-1.5", tmp_path)
    with running(folder, *opening(files), *KEEP[1:]) as server:
        after, alone = ask_before_and_after(server, pictures("llava-1.5", 4), dropped=(1,))
        assert 64 <= after["timings"]["cache_n"] < 2 * 64
        assert probabilities(after) == probabilities(alone)
        assert server.metrics()["lookm:images_taken_total"] == 0


def test_a_whole_model(folder: Path, short: list[DemoPrompt]) -> None:
    """What later images have seen of the dropped one stays in their cells: answers are close."""
    prompt = short[0]
    n = len(prompt.images)
    content = "".join(f"Image {i + 1}:<image> " for i in range(n - 1)) + "What is in image 2?"
    fewer = replace(prompt, images=prompt.images[1:], content=content)
    with running(folder, "--embedded", *KEEP) as server:
        asked(server, prompt, id_slot=0)
        after = asked(server, fewer, id_slot=0)
        alone = asked(server, fewer, id_slot=0, cache_prompt=False)
        assert after["timings"]["cache_n"] >= (n - 1) * 64
        assert after["timings"]["prompt_cells"] == alone["timings"]["prompt_cells"]
        one, other = (a["choices"][0]["logprobs"]["content"][0]["logprob"] for a in (after, alone))
        assert one == pytest.approx(other, abs=0.5)
        assert one != other, "its images have seen more"
        # the same again, and another question: what was put together goes on as any prompt does
        again = asked(server, fewer, "What is in image 1?", id_slot=0)
        assert again["timings"]["cache_n"] > 0.9 * again["timings"]["prompt_cells"]


def test_refused(tmp_path: Path) -> None:
    code, said = refused("--kv-keep-after-gap", "--kv-ratio", "0.5", "--kv-method", "h2o")
    assert code == 2
    assert "--kv-keep-after-gap: method h2o adds up the attention of all queries" in said
    files = write_pair("gemma-3", tmp_path)
    code, said = refused(*opening(files), *KEEP)
    assert code == 2
    assert "--kv-keep-after-gap: memory type kv_cache_iswa takes no single cells" in said

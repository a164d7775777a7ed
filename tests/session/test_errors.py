"""Bad input is an exception that names the argument, its value and what was expected."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from lookm_cpp import Llava, methods, model_info, plan
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL, DemoPrompt
from lookm_cpp.images import load_image
from PIL import Image

OWL = DEMO / "pic08.png"
WIDTH = 256
"""Embedding size of the embedded model."""


def _truncated(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return target


def _narrow_mmproj(target: Path) -> Path:
    """The embedded projector with half its output width, as if it belonged to a smaller model."""
    reader = gguf.GGUFReader(MMPROJ)
    writer = gguf.GGUFWriter(target, "clip")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            value = WIDTH // 2 if name == "clip.vision.projection_dim" else field.contents()
            item = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, value, field.types[0], item)
    for tensor in reader.tensors:
        data = tensor.data[: WIDTH // 2] if tensor.name.startswith("mm.2.") else tensor.data
        writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


# Files


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"model_path '.*nowhere\.gguf' does not exist, expected a GGUF file",
    ):
        Llava(tmp_path / "nowhere.gguf", mmproj=MMPROJ)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gguf"):
        model_info(tmp_path / "nowhere.gguf")


def test_a_missing_projector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mmproj '.*nowhere\.gguf' does not exist"):
        Llava(MODEL, mmproj=tmp_path / "nowhere.gguf")


def test_model_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a directory, expected a GGUF file"):
        Llava(tmp_path, mmproj=MMPROJ)


def test_model_is_not_a_gguf(tmp_path: Path) -> None:
    notes = tmp_path / "notes.gguf"
    notes.write_text("not a model\n" * 100)
    with pytest.raises(ValueError, match=r"notes\.gguf"):
        Llava(notes, mmproj=MMPROJ)
    with pytest.raises(ValueError, match=r"notes\.gguf"):
        Llava(MODEL, mmproj=notes)
    with pytest.raises(ValueError, match=r"notes\.gguf"):
        model_info(notes)


def test_what_is_no_gguf_is_said_to_be_none_before_its_projector_is_missed(tmp_path: Path) -> None:
    notes = tmp_path / "notes.gguf"
    notes.write_text("not a model")
    with pytest.raises(ValueError, match=r"notes\.gguf' is not a GGUF file"):
        Llava(notes)


def test_model_is_empty(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty\.gguf"):
        Llava(empty, mmproj=MMPROJ)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"half\.gguf"):
        Llava(_truncated(MODEL, tmp_path / "half.gguf"), mmproj=MMPROJ)


def test_a_truncated_projector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"half\.gguf"):
        Llava(MODEL, mmproj=_truncated(MMPROJ, tmp_path / "half.gguf"))


def test_mmproj_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)(?=.*narrow\.gguf)(?=.*128)(?=.*256)"):
        Llava(MODEL, mmproj=_narrow_mmproj(tmp_path / "narrow.gguf"))


def test_model_and_mmproj_mixed_up() -> None:
    with pytest.raises(ValueError, match=MMPROJ.name):
        Llava(MMPROJ, mmproj=MMPROJ)
    with pytest.raises(ValueError, match=MODEL.name):
        Llava(MODEL, mmproj=MODEL)


def test_mmproj_is_found_beside_the_model(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    shutil.copy(MODEL, model)
    with pytest.raises(
        ValueError,
        match=r"mmproj was not given, and the folder of .* has no mmproj\*\.gguf; "
        "expected exactly one",
    ):
        Llava(model)
    shutil.copy(MMPROJ, tmp_path / "mmproj-a.gguf")
    with Llava(model) as llm:
        assert llm.ask("<image> What is this?", [OWL])
    (tmp_path / "mmproj-b.gguf").touch()
    with pytest.raises(
        ValueError, match=r"has mmproj-a\.gguf, mmproj-b\.gguf; expected exactly one"
    ):
        Llava(model)


# Options


@pytest.mark.parametrize("kv_ratio", [0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_kv_ratio_outside_its_range(llm: Llava, kv_ratio: float) -> None:
    with pytest.raises(ValueError, match=r"kv_ratio.*\(0, 1\]"):
        Llava.embedded(kv_ratio=kv_ratio)
    with pytest.raises(ValueError, match="kv_ratio"):
        llm.ask("<image>", [OWL], kv_ratio=kv_ratio)


@pytest.mark.parametrize("name", ["important_ratio", "recent_ratio"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_part_of_the_ratio_outside_its_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Llava.embedded(**{name: value})


def test_important_and_recent_exceed_the_cache() -> None:
    with pytest.raises(ValueError, match=r"important_ratio.*recent_ratio"):
        Llava.embedded(important_ratio=0.6, recent_ratio=0.6)


def test_an_unknown_method_is_refused_with_the_known_ones(llm: Llava) -> None:
    with pytest.raises(ValueError, match=r"method.*best_merge.*text_prior_pivot_merge"):
        Llava.embedded(method="best_merge")
    with pytest.raises(ValueError, match="best_merge"):
        llm.ask("Hello", method="best_merge")
    assert next(iter(methods())) == "origin"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_overflow", "spill"),
        ("fidelity", "code"),
        ("scorer", "last"),
        ("window", 0),
        ("visual_quota", 1.5),
        ("flash_attn", "maybe"),
        ("type_k", "f17"),
        ("type_v", "f17"),
        ("n_ctx", -1),
        ("n_batch", 0),
        ("n_ubatch", 0),
        ("n_threads", -3),
    ],
)
def test_wrong_values_of_other_options_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        Llava.embedded(**{name: value})


def test_text_is_a_floor_upstream(llm: Llava) -> None:
    with pytest.raises(
        ValueError, match=r"text_overflow.*evict.*fidelity.*upstream.*expected keep"
    ):
        Llava.embedded(fidelity="upstream", text_overflow="evict")
    with pytest.raises(ValueError, match="text_overflow"):
        llm.ask("Hello", fidelity="upstream", text_overflow="evict")


def test_a_scorer_that_the_method_cannot_have(llm: Llava) -> None:
    with pytest.raises(ValueError, match=r"scorer.*none.*roco.*expected cumulative or window"):
        Llava.embedded(method="roco", scorer="none")
    with pytest.raises(ValueError, match=r"scorer.*window.*random.*expected none"):
        llm.ask("Hello", method="random", scorer="window")


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repeat_penalty"])
def test_sampling_outside_its_range(llm: Llava, name: str) -> None:
    options: Any = {name: -1.0}
    with pytest.raises(ValueError, match=f"{name}: -1"):
        llm.ask("Hello", **options)


@pytest.mark.parametrize("seed", [-2, 1 << 32])
def test_seed_of_more_than_32_bits(llm: Llava, seed: int) -> None:
    with pytest.raises(
        ValueError, match=f"seed: {seed} is out of range; expected 0 to 4294967295, or -1"
    ):
        llm.ask("Hello", seed=seed)
    with pytest.raises(ValueError, match=f"seed: {seed} is"):
        Llava.embedded(seed=seed)
    assert llm.ask("Hello", seed=-1)


@pytest.mark.parametrize(
    "name", ["n_ctx", "n_batch", "n_ubatch", "n_threads", "n_gpu_layers", "window"]
)
def test_numbers_of_more_than_32_bits(name: str) -> None:
    options: Any = {name: 1 << 40}
    with pytest.raises(ValueError, match=f"{name} is {1 << 40}, expected at most"):
        Llava.embedded(**options)


@pytest.mark.parametrize("name", ["images", "n_ctx", "max_tokens", "kv_cells"])
def test_plans_of_more_than_32_bits(name: str) -> None:
    options: Any = {"images": 1, name: 1 << 40}
    with pytest.raises(ValueError, match=f"{name} is {1 << 40}, expected at most"):
        plan(MODEL, mmproj=MMPROJ, **options)


# Images


def test_greys_of_16_bits_keep_their_shades(tmp_path: Path) -> None:
    ramp = np.arange(0, 1 << 16, 257, dtype=np.uint16).reshape(16, 16)  # 257 n is n in 8 bits
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for name in ("ramp.png", "ramp.tiff", "ramp.pgm"):
        Image.fromarray(ramp).save(tmp_path / name)
        np.testing.assert_array_equal(load_image(tmp_path / name, name), expected)
    np.testing.assert_array_equal(load_image(Image.fromarray(ramp), "ramp"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_32_bits_have_no_white(tmp_path: Path, dtype: type) -> None:
    picture = Image.fromarray(np.eye(8, dtype=dtype))
    picture.save(tmp_path / "deep.tiff")
    for image in (picture, tmp_path / "deep.tiff"):
        with pytest.raises(
            ValueError,
            match=r"image 1 .* has 32-bit or signed pixels .*, expected 8 or 16 bits a channel",
        ):
            load_image(image, "image 1")


def test_a_missing_image_is_refused_by_its_number(llm: Llava, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"image 2 '.*nowhere\.png' does not exist, expected an image file"
    ):
        llm.ask("<image><image>", [OWL, tmp_path / "nowhere.png"])


def test_an_empty_image_is_refused(llm: Llava, tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(
        ValueError, match=r"image 1 '.*empty\.png' is empty \(0 bytes\), expected an image"
    ):
        llm.ask("<image>", [empty])
    with pytest.raises(ValueError, match=r"image 1 \(0 bytes\) is empty"):
        llm.ask("<image>", [b""])


def test_a_corrupt_image_is_refused(llm: Llava, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nothing like a picture" * 20)
    with pytest.raises(ValueError, match=r"image 1 '.*corrupt\.png' is"):
        llm.ask("<image>", [corrupt])
    with pytest.raises(ValueError, match=r"image 1 \(4 bytes\) is not a readable image"):
        llm.ask("<image>", [b"text"])


def test_a_truncated_image_is_refused(llm: Llava, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"image 1 '.*half\.png' is damaged, expected a complete image"
    ):
        llm.ask("<image>", [_truncated(OWL, tmp_path / "half.png")])


def test_an_image_of_too_many_pixels_is_refused(llm: Llava, tmp_path: Path) -> None:
    enormous = tmp_path / "enormous.png"
    Image.new("1", (20_000, 20_000)).save(enormous)
    with pytest.raises(
        ValueError, match=r"image 1 '.*enormous\.png' is too large, expected at most \d+ pixels"
    ):
        llm.ask("<image>", [enormous])
    with pytest.raises(ValueError, match=r"20000 x 20000 pixels, expected at most"):
        llm.ask("<image>", [Image.new("1", (20_000, 20_000))])


def test_network_addresses_are_refused(llm: Llava) -> None:
    for address in (
        "http://example.org/a.png",
        "HTTPS://example.org/a.png",
        "ftp://example.org/a",
        "file://host/a.png",
    ):
        with pytest.raises(
            ValueError, match=r"image 1 .* is a network address, expected a file path"
        ):
            llm.ask("<image>", [address])


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,@@@", "data:image/png;base64", "data:,", "data:,hello"]
)
def test_a_wrong_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="image 1 'data:"):
        load_image(uri, "image 1")


def test_image_of_another_type(llm: Llava) -> None:
    with pytest.raises(
        TypeError, match="image 1 '3' is of type int, expected a path, URI, base64 text, bytes"
    ):
        llm.ask("<image>", [3])  # type: ignore[list-item]


# Prompts


@pytest.mark.parametrize(
    ("question", "n_images"), [("<image> and <image>", 1), ("<image>", 2), ("<image>", 0)]
)
def test_placeholders_do_not_match_the_images(llm: Llava, question: str, n_images: int) -> None:
    n_placeholders = question.count("<image>")
    with pytest.raises(
        ValueError, match=f"{n_placeholders} placeholders <image> for {n_images} images"
    ):
        llm.ask(question, [OWL] * n_images)


def test_an_empty_list_of_messages_is_refused(llm: Llava) -> None:
    with pytest.raises(ValueError, match="messages is empty, expected at least one message"):
        llm.create_chat_completion([])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("hello", r"messages\[0\] is 'hello', expected a dict with 'role'"),
        ({"role": "user"}, r"messages\[0\] is .* expected a dict with 'content'"),
        ({"role": 1, "content": "a"}, r"messages\[0\].role is 1, expected str"),
        ({"role": "user", "content": None}, r"messages\[0\].content is None, expected str or list"),
        (
            {"role": "user", "content": ["a"]},
            r"messages\[0\].content\[0\] is 'a', expected a dict with 'type'",
        ),
        (
            {"role": "user", "content": [{"type": "audio"}]},
            r"content\[0\].type is 'audio', expected 'text' or 'image_url'",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            r"content\[0\] is .*, expected a dict with 'text'",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            r"image_url is {}, .* with 'url'",
        ),
    ],
)
def test_message_of_another_shape(llm: Llava, message: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        llm.create_chat_completion([message])


def test_prompt_longer_than_the_context(longest: DemoPrompt) -> None:
    with Llava.embedded(n_ctx=512) as llm:
        with pytest.raises(ValueError, match=r"(?=.*\b512\b)(?=.*\b1[01]\d\d\b)"):
            llm.ask(longest.content, longest.images)
        assert llm.ask("<image> What is this?", [OWL])


def test_text_alone_is_answered_with_the_full_cache(llm: Llava) -> None:
    question = "The code of Anna is 4821. What is the code of Anna?"
    full = llm.ask(question)
    assert llm.ask(question, kv_ratio=0.2) == full
    assert llm.stats.kept_cells == llm.stats.prompt_cells == llm.stats.text_cells
    assert "image" in llm.stats.note


# After use


def test_a_closed_model_refuses_every_call(describe: DemoPrompt) -> None:
    llm = Llava.embedded()
    stream = llm.create_chat_completion([{"role": "user", "content": "Hello"}], stream=True)
    next(stream)
    llm.close()
    llm.close()
    for use in (
        lambda: llm.ask("Hello"),
        lambda: llm.create_chat_completion([{"role": "user", "content": "Hello"}]),
        lambda: llm.stats,
        lambda: llm.n_ctx,
        lambda: next(stream),
        llm.__enter__,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_an_error_leaves_the_model_usable(llm: Llava, describe: DemoPrompt) -> None:
    before = llm.ask(describe.content, describe.images)
    with pytest.raises(ValueError, match="image 1"):
        llm.ask("<image>", [b"text"])
    assert llm.ask(describe.content, describe.images) == before


def test_a_context_smaller_than_a_batch(llm: Llava) -> None:
    # llama.cpp makes 256 cells of it, but takes batches of 50 tokens only
    with Llava.embedded(n_ctx=50) as small:
        assert small.n_ctx == 256
        assert small.ask("<image> What is this?", [OWL]) == llm.ask("<image> What is this?", [OWL])

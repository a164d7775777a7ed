"""Unusual prompts and options of multimodal models: an answer, or an error with the argument."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core_session import Session

from zoo.decoders import N_EMBD
from zoo.gguf_file import Metadata, Shapes, linear, write
from zoo.pairs import PAIRS, REFUSED, write_pair

METHOD = "text_prior_pivot_merge"


def _open(files: tuple[Path, Path], **options: int) -> Session:
    return Session(str(files[0]), str(files[1]), n_threads=1, **options)  # type: ignore[arg-type]


def _ask(
    session: Session, text: str, width: int = 96, height: int = 64, kv_ratio: float = 0.3
) -> bytes | None:
    """The first token of the answer to an image of noise."""
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    session.prefill(
        text.replace("<image>", session.media_marker), [image], kv_ratio=kv_ratio, method=METHOD
    )
    session.start(temperature=0.0)
    return session.next()


@pytest.mark.parametrize("name", PAIRS)
def test_sizes_that_no_camera_makes(name: str, tmp_path: Path) -> None:
    session = _open(write_pair(name, tmp_path))
    for size in ((1, 1), (1, 400), (400, 1), (1000, 7)):
        if name == "smolvlm" and size != (1, 1):  # would be resized to less than one pixel
            with pytest.raises(ValueError, match="images: the image encoder rejects them"):
                _ask(session, "A<image>B", *size)
            continue
        assert _ask(session, "A<image>B", *size) is not None
        assert session.stats["image_cells"] > 0
        assert session.stats["kept_cells"] < session.stats["prompt_cells"]
    assert _ask(session, "A<image>B") is not None


def test_an_image_at_the_end(tmp_path: Path) -> None:
    """There are no logits after image cells, unless the model puts a token after each image."""
    session = _open(write_pair("llava-1.5", tmp_path))
    with pytest.raises(
        ValueError, match="messages: the prompt ends with an image; expected text after it"
    ):
        _ask(session, "A<image>")
    assert _ask(_open(write_pair("qwen2-vl", tmp_path)), "A<image>") is not None


@pytest.mark.parametrize("options", [{"n_batch": 32}, {"n_ubatch": 32}])
def test_an_image_that_must_be_read_at_once(tmp_path: Path, options: dict[str, int]) -> None:
    files = write_pair("gemma-3", tmp_path)
    (argument,) = options
    with pytest.raises(
        ValueError, match=f"{argument}: 32 is too small; this model needs at least the 64 cells"
    ):
        _ask(_open(files, **options), "A<image>B")
    assert _ask(_open(files, **{argument: 64}), "A<image>B") is not None


@pytest.mark.parametrize("name", ["llava-1.5", "qwen2-vl", "qwen3-vl", "mistral-small-3.1"])
def test_an_image_in_several_batches(tmp_path: Path, name: str) -> None:
    files = write_pair(name, tmp_path)
    answers = []
    for n_batch, n_ubatch in ((512, 512), (32, 32), (5, 3)):
        session = _open(files, n_batch=n_batch, n_ubatch=n_ubatch)
        answers.append((_ask(session, "A<image>B", 320, 224), session.stats["kept_cells"]))
    assert answers[1:] == answers[:1] * 2


@pytest.mark.parametrize("name", ["smolvlm", "minicpm-v-2.6"])
def test_a_projector_whose_marks_the_vocabulary_lacks(tmp_path: Path, name: str) -> None:
    model, mmproj = write_pair("llava-1.5", tmp_path).model, write_pair(name, tmp_path).mmproj
    with pytest.raises(
        ValueError,
        match="mmproj: it puts tokens around images that are not in the model's vocabulary",
    ):
        _ask(_open((model, mmproj)), "A<image>B")


def test_latent_attention_answers_in_full(tmp_path: Path) -> None:
    session = _open(write_pair("kimi-vl", tmp_path))
    with pytest.raises(
        ValueError, match=r"kv_ratio: 0\.3 asks for compression, but multi-head latent attention"
    ):
        _ask(session, "A<image>B")
    assert _ask(session, "A<image>B", kv_ratio=1.0) is not None
    (cells,) = REFUSED["kimi-vl"].tiles[0]
    assert session.stats["image_cells"] == cells
    assert session.stats["kept_cells"] == session.stats["prompt_cells"] == 1 + 1 + 1 + cells + 1 + 1


def test_a_projector_for_sound_alone(tmp_path: Path) -> None:
    audio: Metadata = {
        "embedding_length": 64,
        "attention.head_count": 4,
        "feed_forward_length": 96,
        "block_count": 1,
    }
    audio |= {"projection_dim": N_EMBD, "num_mel_bins": 80, "projector.stack_factor": 2}
    metadata: Metadata = {"clip.has_audio_encoder": True, "clip.projector_type": "ultravox"}
    metadata |= {f"clip.audio.{key}": value for key, value in audio.items()}
    shapes: Shapes = {
        **linear("a.blk.0.attn_out", 64, 64),
        **linear("a.blk.0.ffn_up", 64, 96),
        **linear("a.blk.0.ffn_down", 96, 64),
        **{
            f"a.conv1d.{i}.{part}": shape
            for i in (1, 2)
            for part, shape in (("weight", (64, 64, 3)), ("bias", (64, 1)))
        },
        "mm.a.mlp.1.weight": (64, 128),
        "mm.a.mlp.2.weight": (N_EMBD, 32),
        "mm.a.norm_pre.weight": (128,),
        "mm.a.norm_mid.weight": (32,),
    }
    mmproj = write(
        tmp_path / "mmproj.gguf",
        "clip",
        {**metadata, "clip.audio.attention.layer_norm_epsilon": 1e-5},
        shapes,
    )
    with pytest.raises(ValueError, match=r"mmproj: .*mmproj\.gguf\" encodes no images"):
        _open((write_pair("llava-1.5", tmp_path).model, mmproj))


def test_trials_need_whole_windows(tmp_path: Path) -> None:
    """Trials go back to the end of the prompt, which a sliding window no longer holds."""
    files = write_pair("gemma-3", tmp_path)
    image = np.zeros((64, 96, 3), np.uint8)
    narrow, session = _open(files), _open(files, swa_full=True)
    text = f"A{session.media_marker}B and what comes behind it"
    with pytest.raises(ValueError, match="swa_full: false, but trials go back to the prompt's end"):
        narrow.read(
            text.replace(session.media_marker, narrow.media_marker),
            [image],
            kv_ratio=0.3,
            method=METHOD,
        )
    session.read(text, [image], kv_ratio=0.3, method=METHOD, n_answer=16)
    session.trial(kv_ratio=0.3, method=METHOD)
    answers = []
    for _ in range(2):
        session.follow(" or not?")
        session.start(temperature=0.0)
        answers.append([session.next() for _ in range(4)])
    assert answers[0] == answers[1]

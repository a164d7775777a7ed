"""Memories whose layers differ: long windows, V of different widths, LongRoPE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from core_session import Session
from lookm_cpp import Llava

from zoo import decoders, gguf_file
from zoo.decoder_table import DECODERS
from zoo.decoders import HEAD_DIM, N_EMBD, write_decoder
from zoo.encoder_table import ENCODERS
from zoo.encoders import write_encoder
from zoo.pairs import PAIRS, write_pair

PICTURE = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
KV_HEADS = [4, 1, 4, 1]


def _answer(session: Session, n: int) -> bytes:
    session.start(temperature=0.0, repeat_penalty=1e6, ignore_eos=True)
    return b"".join(piece or b"" for piece in (session.next() for _ in range(n)))


@pytest.mark.parametrize(
    "limits", [{}, {"shrink": False}, {"n_ctx": 512}, {"n_ctx": 512, "shrink": False}]
)
def test_windows_longer_than_what_is_left(tmp_path: Path, limits: dict[str, Any]) -> None:
    """The windows hold all cells, the compressed layers a third of them.

    A turn that fits into the windows is read. A longer one is rejected and leaves the conversation
    unchanged.
    """
    model, mmproj = write_pair("gemma-3", tmp_path)
    reader = gguf.GGUFReader(model, "r+")
    reader.get_field("gemma3.attention.sliding_window").parts[-1][0] = 512  # type: ignore[union-attr]
    del reader
    session = Session(str(model), str(mmproj), n_threads=1, **{"n_ctx": 4096, **limits})
    turn = " ".join(f"{name}{session.media_marker}" for name in "ABC") + " What is it?"
    options: dict[str, Any] = {"kv_ratio": 0.3, "method": "text_prior_pivot_merge", "n_answer": 8}
    for _ in range(2 if "n_ctx" in limits else 5):
        session.converse(turn, [PICTURE] * 3, **options)
        assert _answer(session, 4)
    if "n_ctx" in limits:
        assert session.stats["kept_cells"] < 200
        with pytest.raises(
            ValueError,
            match="prompt: 216 cells after the conversation's 438 do not fit into n_ctx 512",
        ):
            session.converse(turn, [PICTURE] * 3, **options)
        assert session.talking
        session.converse(" And?", [], **options)
        assert _answer(session, 4)


def test_a_cap_in_bytes_where_v_is_as_wide_as_the_widest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without flash attention, llama.cpp gives V of every layer the rows of the widest layer."""
    block = decoders._block

    def narrow(decoder: Any, i: int) -> Any:
        rows = (KV_HEADS[i] * HEAD_DIM, N_EMBD)
        return {**block(decoder, i), "attn_k.weight": rows, "attn_v.weight": rows}

    monkeypatch.setattr(decoders, "_block", narrow)
    decoder = DECODERS["gemma4"]
    decoder = replace(decoder, metadata=decoder.metadata | {"attention.head_count_kv": KV_HEADS})
    model = write_decoder(tmp_path / "model.gguf", decoder, list(PAIRS["gemma-4"].special_tokens))
    mmproj = write_encoder(tmp_path / "mmproj.gguf", ENCODERS["gemma-4"])
    for flash_attn in ("on", "off"):
        for kv_memory in (2 << 20, 4 << 20):
            session = Session(
                str(model),
                str(mmproj),
                n_threads=1,
                n_ubatch=128,
                n_ctx=16384,
                flash_attn=flash_attn,
                kv_memory=kv_memory,
                shrink=False,
            )
            session.prefill(
                f"A{session.media_marker}B",
                [PICTURE],
                kv_ratio=0.4,
                method="text_prior_pivot_merge",
            )
            assert 0.8 * kv_memory < session.stats["kv_bytes_allocated_before"] <= kv_memory
            assert _answer(session, 4)


def test_a_conversation_of_another_rotation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With LongRoPE, the rotation of positions depends on the size of the context."""
    weights = gguf_file._weights

    def factors(name: str, shape: tuple[int, ...]) -> Any:
        if name.startswith("rope_factors"):
            return np.full(shape, 8.0 if "long" in name else 1.0, np.float32)
        return weights(name, shape)

    monkeypatch.setattr(gguf_file, "_weights", factors)
    decoder, shape = DECODERS["phi3"], (HEAD_DIM // 2,)
    decoder = replace(
        decoder,
        metadata=decoder.metadata | {"rope.scaling.original_context_length": 256},
        outer=dict(decoder.outer)
        | {"rope_factors_long.weight": shape, "rope_factors_short.weight": shape},
    )
    model = write_decoder(tmp_path / "model.gguf", decoder, list(PAIRS["phi-4"].special_tokens))
    with Llava(model, mmproj=False, n_ctx=256, n_threads=1) as short:
        chat = short.chat()
        chat.ask("A text that is read first.", max_tokens=4)
        chat.save(tmp_path / "talk.state")
    with Llava(model, mmproj=False, n_ctx=256, n_threads=1) as same:
        assert same.load_state(tmp_path / "talk.state").ask("And now?", max_tokens=4) is not None
    with (
        Llava(model, mmproj=False, n_ctx=1024, n_threads=1) as long,
        pytest.raises(ValueError, match=r"state: it was made with n_ctx 256, .* expected 1024"),
    ):
        long.load_state(tmp_path / "talk.state")
    with pytest.raises(
        ValueError,
        match='kept_type_k: "f32" asks for a second cache, but the size of this model\'s',
    ):
        Llava(model, mmproj=False, n_threads=1, kept_type_k="f32")

"""``kv_ratio="auto"`` on the embedded model: against attention that ``explain`` lists cell by cell,
and against the fixed ratio that was chosen.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from lookm_cpp import Llava, arrays, embedded, plan
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO, DemoPrompt
from lookm_cpp.explaining import Explanation
from PIL import Image

from session.tiny_models import write_llama

QUALITIES = (0.5, 0.8, 0.9, 0.98)
METHODS = (
    "lookm_plus",
    "h2o",
    "snapkv",
    "snapkv_question",
    "roco",
    "text_prior_pivot_merge",
)


@pytest.fixture(scope="module")
def asked(prompts: list[DemoPrompt]) -> dict[str, Any]:
    """Eight pictures and a question."""
    prompt = next(one for one in prompts if len(one.images) == 8)
    return {"question": prompt.content, "images": prompt.images}


def attention(llm: Llava, asked: dict[str, Any], **how: Any) -> tuple[Explanation, Any]:
    """``[n_layer, n_head_kv, n]``: what each cell received, from a method that changes nothing."""
    found = llm.explain(**asked, methods=["h2o"], kv_ratio=0.5, max_tokens=1, **how)
    return found, np.stack([layer.score for layer in found.methods[0].layers])


def share(scores: npt.NDArray[np.float32], kept: list[npt.NDArray[np.int32]]) -> float:
    shares = [
        of_head.astype(np.float64)[cells].sum() / of_head.astype(np.float64).sum()
        for layer, of_heads in enumerate(scores)
        for of_head, cells in zip(of_heads, kept[layer], strict=True)
    ]
    return float(np.mean(shares))


def test_the_question_s_attention_decides(llm: Llava, asked: dict[str, Any]) -> None:
    """For lookm_plus it is that of the text after the last image, as ``h2o`` with that window."""
    found, scores = attention(llm, asked, scorer="window")
    for quality in QUALITIES:
        ratio, held = arrays.choose_ratio(scores, found.is_text, quality=quality)
        llm.ask(**asked, kv_ratio="auto", quality=quality, max_tokens=1)
        assert llm.stats.chosen_ratio == ratio
        assert llm.stats.attention_held == pytest.approx(held, abs=1e-9)
        kept = arrays.select(
            scores[0], found.is_text, important_ratio=0.9 * ratio, recent_ratio=0.1 * ratio
        )
        assert llm.stats.kept_cells == kept.shape[1]


@pytest.mark.parametrize("method", ["h2o", "text_prior_h2o", "snapkv", "lookm_plus"])
@pytest.mark.parametrize("kv_ratio", [0.1, 0.3, "auto"])
def test_the_share_held_is_that_of_the_kept_cells(
    llm: Llava, asked: dict[str, Any], method: str, kv_ratio: Any
) -> None:
    """Of a fixed ratio as well."""
    windows: dict[str, dict[str, Any]] = {
        "snapkv": {"scorer": "window", "window": 64},
        "lookm_plus": {"scorer": "window"},
    }
    _, scores = attention(llm, asked, **windows.get(method, {}))
    one = llm.explain(
        **asked, methods=[method], kv_ratio=kv_ratio, quality=0.9, max_tokens=1
    ).methods[0]
    assert (one.stats.chosen_ratio is None) == (kv_ratio != "auto")
    expected = share(scores, [layer.kept for layer in one.layers])
    assert one.stats.attention_held == pytest.approx(expected, abs=1e-6)
    assert 0 < expected < 1


@pytest.mark.parametrize("method", METHODS)
def test_the_answer_is_that_of_the_chosen_ratio(
    llm: Llava, asked: dict[str, Any], method: str
) -> None:
    before: tuple[float, float] = (0, 0)
    for quality in (0.6, 0.8, 0.9):
        how: Any = {"method": method, "ratio_ceiling": 0.8}
        answer = llm.ask(**asked, kv_ratio="auto", quality=quality, **how)
        chosen = llm.stats
        assert chosen.chosen_ratio is not None
        assert chosen.attention_held is not None
        assert chosen.attention_held >= quality
        assert (chosen.chosen_ratio, chosen.attention_held) >= before
        before = (chosen.chosen_ratio, chosen.attention_held)

        assert llm.ask(**asked, kv_ratio=chosen.chosen_ratio, **how) == answer
        fixed = llm.stats
        assert fixed.chosen_ratio is None
        assert fixed.attention_held == chosen.attention_held
        assert fixed.kept_cells == chosen.kept_cells
        assert fixed.kv_bytes_used_after == chosen.kv_bytes_used_after
        llm.ask(**asked, kv_ratio=chosen.chosen_ratio - 0.001, **how)
        assert llm.stats.attention_held is not None
        assert llm.stats.attention_held < quality


def test_floor_and_ceiling(llm: Llava, asked: dict[str, Any]) -> None:
    llm.ask(**asked, kv_ratio="auto", quality=0.01, ratio_floor=0.117, max_tokens=1)
    assert llm.stats.chosen_ratio == 0.117
    llm.ask(**asked, kv_ratio="auto", quality=1.0, ratio_ceiling=0.2345, max_tokens=1)
    assert llm.stats.chosen_ratio == 0.2345
    assert llm.stats.kv_ratio == pytest.approx(0.2345, abs=0.01)
    assert llm.stats.attention_held is not None
    assert llm.stats.attention_held < 1


def test_a_ceiling_of_one_may_keep_all(llm: Llava, asked: dict[str, Any]) -> None:
    full = llm.ask(**asked, kv_ratio=1.0, max_tokens=24)
    how: Any = {"kv_ratio": "auto", "ratio_ceiling": 1.0}
    assert llm.ask(**asked, quality=1.0, max_tokens=24, **how) == full
    stats = llm.stats
    assert (stats.chosen_ratio, stats.kv_ratio, stats.attention_held) == (1.0, 1.0, 1.0)
    assert "nothing to evict" in stats.note
    llm.ask(**asked, quality=0.9, max_tokens=1, **how)
    assert llm.stats.kv_ratio < 0.9


def test_all_text_stays_beyond_the_ratio(llm: Llava, asked: dict[str, Any]) -> None:
    """``text_overflow="keep"``: the ratio that is really kept is larger."""
    how: Any = {"method": "text_prior_h2o", "ratio_floor": 0.01, "quality": 0.1}
    llm.ask(**asked, kv_ratio="auto", max_tokens=1, **how)
    stats = llm.stats
    assert stats.kept_text_cells == stats.text_cells
    assert stats.chosen_ratio is not None
    assert stats.kv_ratio > stats.chosen_ratio
    assert stats.attention_held is not None
    assert stats.attention_held >= 0.1


def test_a_prompt_that_is_not_compressed(llm: Llava) -> None:
    llm.ask("Who are you?", kv_ratio="auto", max_tokens=1)
    stats = llm.stats
    assert stats.note.startswith("no image and no context")
    assert (stats.kv_ratio, stats.chosen_ratio, stats.attention_held) == (1.0, None, None)
    llm.ask("Who are you?", kv_ratio="auto", max_tokens=1, method="origin")
    assert llm.stats.note == "method origin keeps the full cache"


def test_a_text_alone(llm: Llava) -> None:
    """Under a method that compresses it: its last queries count."""
    how: Any = {"method": "snapkv", "window": 16, "ratio_ceiling": 0.95, "max_tokens": 1}
    llm.ask("Who is Anna? " * 20, kv_ratio="auto", quality=0.9, **how)
    assert llm.stats.chosen_ratio is not None
    assert llm.stats.attention_held is not None
    assert llm.stats.attention_held >= 0.9


@pytest.mark.parametrize("method", ["random", "streaming_llm"])
def test_a_method_without_scores(llm: Llava, asked: dict[str, Any], method: str) -> None:
    with pytest.raises(ValueError, match=f'kv_ratio: "auto" does not go with method {method}'):
        llm.ask(**asked, kv_ratio="auto", method=method)
    llm.ask(**asked, kv_ratio=0.2, method=method, max_tokens=1)
    assert llm.stats.attention_held is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_ratio": "quick"}, r'kv_ratio: "quick" is unknown; expected a number in \(0, 1\] or'),
        ({"kv_ratio": [0.5]}, r"kv_ratio is \[0.5\], expected a number or \"auto\""),
        ({"kv_ratio": "auto", "important_ratio": 0.1}, "important_ratio: 0.1 does not go with"),
        ({"kv_ratio": "auto", "recent_ratio": 0.0}, "recent_ratio: 0 does not go with kv_ratio"),
        ({"kv_ratio": "auto", "scorer": "none"}, 'kv_ratio: "auto" does not go with'),
        ({"quality": 0}, r"quality: 0 is outside \(0, 1\]"),
        ({"quality": "good"}, "quality is 'good', expected a number"),
        ({"quality": memoryview(b"9")}, "quality is <memory .*expected a number"),
        ({"ratio_floor": 0.6}, "ratio_floor: 0.6 is more than ratio_ceiling 0.5"),
        ({"ratio_ceiling": 2}, r"ratio_ceiling: 2 is outside \(0, 1\]"),
    ],
)
def test_wrong_values(llm: Llava, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        llm.ask("Who?", **options)
    with pytest.raises(ValueError, match=message):
        Llava.embedded(**options)


def test_a_ratio_of_a_call_replaces_auto(asked: dict[str, Any]) -> None:
    with Llava.embedded(kv_ratio="auto", quality=0.8) as llm:
        assert "kv_ratio='auto'" in repr(llm)
        llm.ask(**asked, max_tokens=1)
        first = llm.stats.chosen_ratio
        assert first is not None
        llm.ask(**asked, kv_ratio=0.3, max_tokens=1)
        assert llm.stats.chosen_ratio is None
        llm.ask(**asked, important_ratio=0.1, recent_ratio=0.1, max_tokens=1)
        assert llm.stats.chosen_ratio is None
        llm.ask(**asked, quality=0.9, max_tokens=1)
        assert llm.stats.chosen_ratio is not None
        assert llm.stats.chosen_ratio > first


def test_flash_attention_is_chosen_as_for_the_ceiling() -> None:
    """Scores of all queries are needed in both."""
    for method in ("h2o", "lookm_plus"):
        with (
            Llava.embedded(kv_ratio="auto", method=method) as auto,
            Llava.embedded(kv_ratio=0.5, method=method) as fixed,
        ):
            assert auto._session.flash_attn == fixed._session.flash_attn


def test_memory_is_planned_with_the_ceiling() -> None:
    def planned(**how: Any) -> Any:
        return plan(
            embedded.MODEL,
            mmproj=embedded.MMPROJ,
            images=40,
            method="lookm_plus",
            n_ctx=8192,
            **how,
        )

    for ceiling in (0.3, 0.5):
        auto, fixed = planned(kv_ratio="auto", ratio_ceiling=ceiling), planned(kv_ratio=ceiling)
        assert auto["kept_cells"] == fixed["kept_cells"]
        assert auto["kv_bytes_kept"] == fixed["kv_bytes_kept"]
        assert auto["reading"]["scores"] == 2 * fixed["reading"]["scores"]  # and their copy


def pixels_of(asked: dict[str, Any]) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(Image.open(path).convert("RGB")) for path in asked["images"]]


def test_a_trial_chooses_as_a_prompt_does(asked: dict[str, Any]) -> None:
    session = Session(str(embedded.MODEL), str(embedded.MMPROJ), n_threads=1)
    text = asked["question"].replace("<image>", session.media_marker)
    pixels = pixels_of(asked)
    expected = {}
    for quality in (0.7, 0.9):
        session.prefill(text, pixels, kv_ratio="auto", quality=quality)
        expected[quality] = session.stats
    session.read(text, pixels, kv_ratio="auto", n_answer=16)
    for quality, before in expected.items():
        session.trial(kv_ratio="auto", quality=quality)
        tried = session.stats
        for name in ("chosen_ratio", "attention_held", "kept_cells", "kv_ratio"):
            assert tried[name] == before[name], name
        session.trial(kv_ratio=tried["chosen_ratio"])
        assert session.stats["attention_held"] == tried["attention_held"]
        assert session.stats["kept_cells"] == tried["kept_cells"]


def test_before_the_question_is_known(asked: dict[str, Any]) -> None:
    """The last queries are an image's: they say nothing, and the ceiling is taken."""
    session = Session(str(embedded.MODEL), str(embedded.MMPROJ), n_threads=1)
    pixels = pixels_of(asked)
    session.read(session.media_marker * len(pixels), pixels, kv_ratio="auto", n_answer=16)
    session.trial(kv_ratio="auto", quality=0.1, ratio_ceiling=0.4)
    stats = session.stats
    assert (stats["chosen_ratio"], stats["attention_held"]) == (0.4, None)
    assert stats["kv_ratio"] == pytest.approx(0.4, abs=0.01)
    session.read(
        session.media_marker * len(pixels), pixels, kv_ratio="auto", method="h2o", n_answer=16
    )
    session.trial(kv_ratio="auto", quality=0.3, method="h2o")  # all queries count
    held = session.stats["attention_held"]
    assert held is not None
    assert held >= 0.3


# A cap


def test_under_a_cap(longest: DemoPrompt) -> None:
    """The ratio is of the whole prompt, the share of the attention to the cells that are left."""
    question: dict[str, Any] = {"question": longest.content, "images": longest.images}
    with Llava.embedded(kv_cells=400) as llm:
        answer = llm.ask(**question, kv_ratio="auto", quality=0.9, ratio_ceiling=0.3)
        stats = llm.stats
        assert stats.squeezed_cells > 0
        assert stats.chosen_ratio is not None
        assert stats.attention_held is not None
        assert stats.attention_held >= 0.9 or stats.chosen_ratio == 0.3
        assert stats.kept_cells == pytest.approx(stats.chosen_ratio * stats.prompt_cells, abs=2)
        assert stats.kept_cells <= 400
        assert llm.ask(**question, kv_ratio=stats.chosen_ratio) == answer
        assert llm.stats.attention_held == stats.attention_held


def test_a_ceiling_above_the_cap(longest: DemoPrompt) -> None:
    """What the cap leaves is less than the ceiling; a smaller ratio is found all the same."""
    with Llava.embedded(kv_cells=400) as llm:
        llm.ask(longest.content, longest.images, kv_ratio="auto", quality=0.7, ratio_ceiling=0.9)
        stats = llm.stats
        assert stats.chosen_ratio is not None
        assert stats.chosen_ratio < 0.4
        assert stats.kept_cells == pytest.approx(stats.chosen_ratio * stats.prompt_cells, abs=2)


# Conversations


def test_each_turn_of_a_conversation_decides(asked: dict[str, Any]) -> None:
    """As with the ratios that were chosen, and no cell of text is lost. A step less is too few."""
    session = Session(str(embedded.MODEL), str(embedded.MMPROJ), n_threads=1)
    pixels = pixels_of(asked)
    names = ("attention_held", "kept_cells", "kept_image_cells", "squeezed_cells")

    def talk(*turns: dict[str, Any]) -> list[tuple[Any, list[bytes]]]:
        out = []
        for i, how in enumerate(turns):
            n = 4 - 2 * i
            (session.converse if i else session.converse_anew)(
                session.media_marker * n + " What is in image 1?", pixels[:n], n_answer=12, **how
            )
            stats = session.stats
            session.start(temperature=0)
            out.append((stats, list(islice(iter(session.next, None), 12))))
        return out

    auto: dict[str, Any] = {"kv_ratio": "auto", "quality": 0.9, "ratio_ceiling": 0.95}
    found = talk(auto, auto)
    for stats, _ in found:
        assert 0.9 <= stats["attention_held"] < 1
        assert stats["kept_text_cells"] == stats["text_cells"]
        assert stats["kept_image_cells"] < stats["image_cells"]
    ratios = [stats["chosen_ratio"] for stats, _ in found]
    assert ratios[0] != ratios[1]
    for one, (stats, answer) in zip(talk(*({"kv_ratio": r} for r in ratios)), found, strict=True):
        assert one[0]["chosen_ratio"] is None
        assert [one[0][name] for name in names] == [stats[name] for name in names]
        assert one[1] == answer
    for i in (0, 1):
        less = [{"kv_ratio": r} for r in ratios[:i]] + [{"kv_ratio": ratios[i] - 0.001}]
        assert talk(*less)[-1][0]["attention_held"] < 0.9


def test_what_a_conversation_holds(llm: Llava, asked: dict[str, Any]) -> None:
    """By hand, for one image: its cells with the least attention of all queries go.

    The first four cells and the last eighth of what stays are not given up.
    """
    prompt: dict[str, Any] = {
        "question": "<image> What is in image 1?",
        "images": asked["images"][:1],
    }
    found, scores = attention(llm, prompt)
    chat = llm.chat(kv_ratio="auto", quality=0.85, ratio_ceiling=0.9, method="text_prior_h2o")
    chat.ask(**prompt, max_tokens=1)
    stats = chat.stats
    n_evicted = stats.prompt_cells - stats.kept_cells
    assert stats.chosen_ratio is not None
    assert 0 < n_evicted < stats.image_cells
    cell = np.arange(stats.prompt_cells)
    last = stats.prompt_cells - int(stats.chosen_ratio * stats.prompt_cells) // 8
    of_image = scores[..., ~found.is_text & (cell >= 4) & (cell < last)].astype(np.float64)
    lost = np.sort(of_image, axis=-1)[..., :n_evicted].sum(axis=-1)
    expected = 1 - (lost / scores.astype(np.float64).sum(axis=-1)).mean()
    assert stats.attention_held == pytest.approx(expected, abs=1e-4)


def test_a_conversation_goes_on_from_a_file(asked: dict[str, Any], tmp_path: Path) -> None:
    question = "<image> <image> What is in image 2?"
    answers: list[str] = []
    with Llava.embedded(kv_ratio="auto", quality=0.9, ratio_ceiling=0.9) as llm:
        chat = llm.chat()
        chat.ask(question, asked["images"][:2], max_tokens=8)
        chat.save(tmp_path / "talk.state")
        for again in (False, True):
            one = llm.load_state(tmp_path / "talk.state") if again else chat
            answers.append(one.ask("<image> And this?", asked["images"][2:3], max_tokens=12))
            answers.append(str((one.stats.chosen_ratio, one.stats.kept_cells)))
            assert one.stats.chosen_ratio is not None
    assert answers[:2] == answers[2:]


def test_a_conversation_without_attention(llm: Llava) -> None:
    with pytest.raises(ValueError, match='"auto" does not go with method random'):
        llm.chat(kv_ratio="auto", method="random").ask("Who?")
    with pytest.raises(ValueError, match="roco"):
        llm.chat(kv_ratio="auto", method="roco").ask("Who?")


# Other caches


def test_a_context_in_a_model_of_text(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model.gguf", n_ctx=2048)
    session = Session(str(model), "", n_threads=1)
    text = f"{session.context_marker} Who is it?"
    for method in ("lookm_plus", "h2o"):
        how: Any = {"method": method, "contexts": ["A long story. " * 40], "n_answer": 8}
        session.prefill(text, [], kv_ratio="auto", quality=0.6, ratio_ceiling=0.95, **how)
        stats = session.stats
        assert stats["attention_held"] is not None
        assert stats["attention_held"] >= 0.6
        session.prefill(text, [], kv_ratio=stats["chosen_ratio"], **how)
        for name in ("attention_held", "kept_cells", "kept_context_cells"):
            assert session.stats[name] == stats[name]


# Commands

ASK = ["-m", "embedded", "Image 1:<image> What is in image 1?", "--image", str(DEMO / "pic08.png")]


def test_ask_says_what_was_chosen(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", *ASK, "--kv-ratio", "auto", "--quality", "0.8", "--json"]) == 0
    stats = json.loads(capfd.readouterr().out)["stats"]
    assert 0.8 <= stats["attention_held"] < 1
    assert main(["ask", *ASK, "--kv-ratio", str(stats["chosen_ratio"])]) == 0
    line = capfd.readouterr().err
    assert f" kept ({stats['kv_ratio']:.1%}), attention held {stats['attention_held']:.1%}," in line
    assert main(["ask", *ASK]) == 0
    assert "attention held" not in capfd.readouterr().err


def test_other_commands_take_it(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    how = ["--kv-ratio", "auto", "--quality", "0.8", "--ratio-ceiling", "0.4"]
    assert main(["explain", *ASK, *how, "--method", "h2o", "-o", str(page)]) == 0
    assert "attention held" in capfd.readouterr().out
    assert main(["ask", *ASK, *how, "--compare"]) == 0
    assert "attention held" in capfd.readouterr().out
    assert main(["plan", "-m", "embedded", "--images", "4", *how]) == 0
    assert "kv_ratio auto is planned with its ceiling, 0.4." in capfd.readouterr().out
    assert main(["plan", "-m", "embedded", "--images", "4"]) == 0
    assert "ceiling" not in capfd.readouterr().out


def test_the_demo_takes_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--kv-ratio", "auto", "--method", "lookm_plus", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["kv_ratio"] == "auto"
    mean = found["summary"]["compressed"]["lookm_plus"]["mean"]
    held = [one["compressed"]["lookm_plus"]["stats"]["attention_held"] for one in found["prompts"]]
    assert mean["attention_held"] == pytest.approx(np.mean(held))
    assert 0.05 <= mean["chosen_ratio"] <= 0.5
    assert found["summary"]["full"]["mean"]["attention_held"] is None

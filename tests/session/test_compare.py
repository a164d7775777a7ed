"""``Llava.compare`` and ``lookm ask --compare``: two answers, and how close their caches are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Compression, Llava, comparison
from lookm_cpp.cli import main
from lookm_cpp.cli.eval_options import make_setup
from lookm_cpp.embedded import DemoPrompt, demo_prompts
from lookm_cpp.evaluation.lab import Lab
from lookm_cpp.options import LlavaOptions

from session.tiny_models import write_llama

PROMPT: DemoPrompt = next(
    prompt for prompt in demo_prompts() if prompt.task == "describe" and len(prompt.images) == 4
)
IMAGES = [str(image) for image in PROMPT.images]


@pytest.mark.parametrize(
    "how", [{"kv_ratio": 0.3, "method": "h2o"}, {"kv_ratio": 0.1, "method": "snapkv"}]
)
def test_answers_and_fidelity_are_those_of_separate_runs(llm: Llava, how: Any) -> None:
    """Distributions by trials, decoded together; their KL divergence summed up in float64."""
    found = llm.compare(PROMPT.content, IMAGES, **how)
    assert llm.stats == found.compressed.stats
    assert found.full.answer == llm.ask(PROMPT.content, IMAGES)
    assert found.full.stats.kept_cells == found.full.stats.prompt_cells
    assert found.compressed.answer == llm.ask(PROMPT.content, IMAGES, **how)
    assert found.compressed.stats.kept_cells == llm.stats.kept_cells
    assert found.compressed.stats.decode_tokens == llm.stats.decode_tokens
    with Lab(make_setup("embedded"), 120) as lab:
        lab.prompt(PROMPT.content, IMAGES)
        (full,) = lab.trial(Compression())
        p, q = (
            np.concatenate([*lab.distributions(way, full.tokens)]).astype(np.float64)
            for way in (Compression(), Compression(**how))
        )
    assert found.fidelity is not None
    assert found.fidelity.n_tokens == len(full.tokens)
    # 1e-3 nats: sums are rounded otherwise when tokens are decoded together
    by_sums = np.mean(np.sum(np.exp(p) * (p - q), axis=1))
    assert found.fidelity.kl_divergence == pytest.approx(by_sums, abs=1e-3)
    assert found.fidelity.top1_agreement == np.mean(p.argmax(axis=1) == q.argmax(axis=1))


def test_equal_caches_are_equally_sure(llm: Llava) -> None:
    """Bit by bit, as both decode token by token."""
    found = llm.compare(PROMPT.content, IMAGES, kv_ratio=1.0)
    assert found.fidelity is not None
    assert (found.fidelity.kl_divergence, found.fidelity.top1_agreement) == (0.0, 1.0)
    assert found.full.answer == found.compressed.answer


def test_devices_say_what_the_cpu_says(llm: Llava, backend: LlavaOptions) -> None:
    """Of the same answer; attention is rounded otherwise."""
    how: Any = {"kv_ratio": 0.5}
    expected = llm.compare(PROMPT.content, IMAGES, **how)
    with Llava.embedded(**backend) as other:
        found = other.compare(PROMPT.content, IMAGES, **how)
        equal = other.compare(PROMPT.content, IMAGES, kv_ratio=1.0).fidelity
    assert found.full.answer == expected.full.answer
    assert found.fidelity is not None
    assert expected.fidelity is not None
    assert found.fidelity.n_tokens == expected.fidelity.n_tokens
    assert found.fidelity.kl_divergence == pytest.approx(expected.fidelity.kl_divergence, abs=0.01)
    assert equal is not None
    assert (equal.kl_divergence, equal.top1_agreement) == (0.0, 1.0)


def test_the_ratio_that_is_given_counts(llm: Llava) -> None:
    """Only where neither the model nor the call says anything it is 0.2."""

    def kept(**options: Any) -> float:
        return llm.compare(
            PROMPT.content, IMAGES, max_tokens=2, **options
        ).compressed.stats.kv_ratio

    assert kept() == pytest.approx(0.2, abs=0.01)
    assert kept(compression=Compression(0.5)) == pytest.approx(0.5, abs=0.01)
    assert kept(kv_ratio=0.4) == pytest.approx(0.4, abs=0.01)
    explained = llm.explain(
        PROMPT.content, IMAGES, methods=["h2o"], max_tokens=1, compression=Compression(0.5)
    )
    assert explained.methods[0].stats.kv_ratio == pytest.approx(0.5, abs=0.01)
    with Llava.embedded(kv_ratio=0.6) as other:
        found = other.compare(PROMPT.content, IMAGES, max_tokens=2)
        assert found.compressed.stats.kv_ratio == pytest.approx(0.6, abs=0.01)


def test_how_many_tokens_count(llm: Llava, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not; of an answer that is cut off, its last token has not been read."""

    def n_tokens(**options: Any) -> int:
        found = llm.compare(PROMPT.content, IMAGES, **options).fidelity
        return found.n_tokens if found else 0

    assert [n_tokens(max_tokens=n) for n in (1, 2, 5)] == [0, 1, 4]
    assert n_tokens(stop=["Image 2"], temperature=1.0, seed=3) > 0
    monkeypatch.setattr(comparison, "MEASURED_TOKENS", 7)
    assert n_tokens() == 7


def test_what_is_refused() -> None:
    with (
        Llava.embedded(kv_cells=512) as llm,
        pytest.raises(ValueError, match="needs the full cache, but kv_cells is 512"),
    ):
        llm.compare(PROMPT.content, IMAGES)
    with pytest.raises(ValueError, match="this Llava is closed"):
        llm.compare(PROMPT.content, IMAGES)


def test_the_command_says_the_same(
    llm: Llava, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = [word for image in IMAGES for word in ("-i", image)]
    command = ["ask", "-m", "embedded", *images, PROMPT.content, "--compare", "--kv-ratio", "0.1"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    same = llm.compare(PROMPT.content, IMAGES, kv_ratio=0.1).as_dict()
    assert found["fidelity"] == same["fidelity"]
    assert found["compressed"]["answer"] == same["compressed"]["answer"]
    assert main(command) == 0
    words = " ".join(capfd.readouterr().out.split())
    assert f"KL divergence {same['fidelity']['kl_divergence']:.3g} nats" in words
    n = same["fidelity"]["n_tokens"]
    assert f"top-1 agreement {same['fidelity']['top1_agreement']:.1%} of {n} tokens" in words
    model = str(write_llama(tmp_path / "text.gguf"))
    short = ["ask", "-m", model, "--text-only", "Who?", "--compare", "--max-tokens", "1"]
    assert main(short) == 0
    assert "KL" not in capfd.readouterr().out
    assert main([*short, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["fidelity"] is None

"""One prompt tried again and again: each trial is what a fresh prompt would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.cli.eval_options import make_setup
from lookm_cpp.compression import Compression
from lookm_cpp.embedded import demo_prompts
from lookm_cpp.evaluation.fidelity import Fidelity, fidelity
from lookm_cpp.evaluation.lab import Ask, Lab
from session.tiny_models import write_llama

PROMPT = next(
    prompt for prompt in demo_prompts() if prompt.task == "describe" and len(prompt.images) == 4
)
CONTEXT, QUESTION = PROMPT.content.rpartition("<image>")[0] + "<image>", " " + PROMPT.question
IMAGES = [str(image) for image in PROMPT.images]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(make_setup("embedded"), 120) as opened:
        yield opened


@pytest.fixture(scope="module")
def llm() -> Iterator[Llava]:
    with Llava.embedded(seed=3) as opened:
        yield opened


def test_a_trial_is_a_fresh_prompt(lab: Lab, llm: Llava) -> None:
    lab.prompt(CONTEXT, IMAGES, question=QUESTION)
    ways = [
        Compression(0.35, "text_prior_pivot_merge"),
        Compression(0.35, "h2o"),
        Compression(0.2, "random"),
        Compression(),
        Compression(0.35, "roco"),
        Compression(0.35, "snapkv"),
        Compression(0.1, "snapkv"),
        Compression(0.35, "h2o", scorer="window", window=7),
        Compression(0.1, "avg_merge"),
        Compression(0.35, "h2o"),
        Compression("auto", "h2o", quality=0.7),
        Compression("auto", "h2o", quality=0.85),
        Compression("auto", quality=0.85),
    ]
    answers = set()
    for way in ways:
        (trial,) = lab.trial(way, seed=3)
        fresh = llm.ask(
            PROMPT.content,
            IMAGES,
            kv_ratio=way.kv_ratio,
            method=way.method,
            scorer=way.scorer,
            window=way.window,
            quality=way.quality,
            seed=3,
        )
        assert trial.answer == fresh, way
        assert trial.kept_cells == llm.stats.kept_cells
        assert trial.kv_bytes == llm.stats.kv_bytes_used_after
        assert trial.attention_held == llm.stats.attention_held
        answers.add(fresh)
    assert len(answers) > 4, "the ways must differ for the comparison to mean anything"


def test_each_question_gets_a_copy_of_the_prompt(lab: Lab, llm: Llava) -> None:
    """With all cells kept it is the whole prompt; no question sees the ones before it."""
    questions = [QUESTION, " What is in image 1?", " What is at the top left of image 1?", QUESTION]
    lab.prompt(CONTEXT, IMAGES, before_question=True)
    asks = [Ask(question) for question in questions]
    full = [trial.answer for trial in lab.trial(Compression(), asks)]
    assert full == [llm.ask(CONTEXT + question, IMAGES) for question in questions]
    small = lab.trial(Compression(0.35, "h2o"), asks)
    assert small[0] == small[3]
    assert [lab.trial(Compression(0.35, "h2o"), [ask])[0] for ask in asks] == small
    llm.ask(PROMPT.content, IMAGES, kv_ratio=0.35, method="h2o")
    assert small[0].prompt_cells < llm.stats.prompt_cells, "the question is not compressed"
    assert small[0].kept_cells < llm.stats.kept_cells


@pytest.mark.parametrize("before", [False, True])
def test_an_answer_goes_on_from_what_it_is_made_to_begin_with(lab: Lab, before: bool) -> None:
    """With all cells kept, the rest is that of the answer; what is given is read, not sampled."""
    lab.prompt(CONTEXT, IMAGES, question="" if before else QUESTION, before_question=before)
    asked = QUESTION if before else ""
    (whole,) = lab.trial(Compression(), [Ask(asked)])
    first, second, rest = whole.answer.split(" ", 2)
    begun, short, other = lab.trial(
        Compression(),
        [Ask(asked, f" {first} {second}"), Ask(asked, "", 3), Ask(asked, " Image 2 shows")],
    )
    assert begun.answer == rest
    assert whole.answer.startswith(short.answer)
    assert len(lab.session.tokens_of(" " + short.answer)) == 3
    assert other.answer != begun.answer


def test_before_the_question_no_query_is_the_questions(lab: Lab) -> None:
    """A later question does not change what is kept, up to the end of the context."""
    lab.prompt(CONTEXT, IMAGES, before_question=True)
    (kept,) = lab.trial(
        Compression(1.0, "text_prior_h2o", important_ratio=1e-9, recent_ratio=0.0), [Ask(QUESTION)]
    )
    assert kept.prompt_cells - kept.kept_cells == 64 * len(IMAGES)


def test_answers_that_never_end(tmp_path: Path) -> None:
    """Question and answer do not fit into the context; the next trial has its prompt again."""
    setup = replace(
        make_setup("embedded"),
        model=write_llama(tmp_path / "model.gguf", n_ctx=2048),
        mmproj=None,
    )
    n_answer, question, h2o = 60, " And what is it then?", Compression(0.5, "h2o")
    with Lab(setup, n_answer) as lab:
        lab.prompt("x", [], before_question=True)
        (one,) = lab.trial(h2o, [Ask(question)])
        n_more = (256 - one.prompt_cells - n_answer) % 256
        lab.prompt("x" * (1 + n_more), [], before_question=True)
        for _ in range(2):
            (trial,) = lab.trial(h2o, [Ask(question)])
            assert (trial.prompt_cells + n_answer) % 256 == 0
        lab.session.trial(Compression(method="origin").core())
        lab.session.follow(question)
        lab.session.start(temperature=0.0, ignore_eos=True)
        assert len([lab.session.next() for _ in range(n_answer)]) == n_answer
        lab.trial(h2o, [Ask(question)])


def test_calls_in_the_wrong_order_are_refused(lab: Lab) -> None:
    session = lab.session
    lab.prompt(CONTEXT, IMAGES, before_question=True)
    lab.trial(Compression(0.5, "h2o"), [Ask(QUESTION)])
    with pytest.raises(ValueError, match='method: "snapkv" takes attention that was not observed'):
        session.trial(Compression(0.5, "snapkv").core())
    session.trial(Compression(0.5, "h2o").core())
    with pytest.raises(ValueError, match="start: no prompt has been processed"):
        session.start()  # the prompt ends with an image: there is nothing to answer
    with pytest.raises(ValueError, match="text: it is empty"):
        session.follow("")
    with pytest.raises(ValueError, match="do not fit behind the prompt"):
        session.follow(" What is in image 1?" * 1000)
    session.follow(" What is in image 1? ASSISTANT:")
    session.start(temperature=0.0)
    assert session.next() is not None
    session.prefill("USER: Who? ASSISTANT:", [], Compression(method="h2o").core())
    with pytest.raises(ValueError, match="no prompt has been read"):
        session.trial(Compression(0.5, "h2o").core())
    with pytest.raises(ValueError, match="no prompt has been tried"):
        session.follow(" Who?")


def test_text_becomes_tokens_and_the_same_text_again(lab: Lab) -> None:
    text = "Image 1: The code of Ivan is 8801.</s>"
    tokens = lab.session.tokens_of(text)
    assert lab.session.text_of(tokens).decode() == text
    assert len(lab.session.tokens_of("</s>")) > 1, "control tokens are only text"
    with pytest.raises(ValueError, match="tokens: 99999 is none of"):
        lab.session.text_of([99999])


def fidelity_of(lab: Lab, way: Compression) -> Fidelity:
    """Of a compression of the prompt that is set, along the full cache's answer."""
    (full,) = lab.trial(Compression())
    pairs = zip(
        [*lab.distributions(Compression(), full.tokens)],
        lab.distributions(way, full.tokens),
        strict=True,
    )
    found = fidelity(pairs)
    assert found is not None
    assert found.n_tokens == len(full.tokens) > 32, "more than are read at once"
    return found


def test_the_full_cache_agrees_with_itself(lab: Lab) -> None:
    """Exactly: each trial begins with the same cells and decodes the same tokens in one thread."""
    lab.prompt(CONTEXT, IMAGES, question=QUESTION)
    for way in (Compression(), Compression(method="origin"), Compression(1.0, "h2o")):
        found = fidelity_of(lab, way)
        assert (found.kl_divergence, found.top1_agreement) == (0.0, 1.0)


def test_fewer_cells_say_less_of_what_the_full_cache_says(lab: Lab) -> None:
    lab.prompt(CONTEXT, IMAGES, question=QUESTION)
    found = [fidelity_of(lab, Compression(ratio, "h2o")) for ratio in (0.8, 0.4, 0.2, 0.05)]
    far = [one.kl_divergence for one in found]
    assert far == sorted(far)
    assert far[-1] > 5 * far[0] > 0
    assert found[-1].top1_agreement < found[0].top1_agreement


def test_distributions_are_those_that_the_answer_was_chosen_from(lab: Lab) -> None:
    lab.prompt(CONTEXT, IMAGES, question=QUESTION)
    for way in (Compression(0.3, "h2o"), Compression(0.3, "snapkv"), Compression(0.3, "random")):
        (trial,) = lab.trial(way, seed=5)
        rows = np.concatenate([*lab.distributions(way, trial.tokens, seed=5)])
        n = len(trial.tokens)
        assert rows.argmax(axis=1)[: n - 1].tolist() == list(trial.tokens[1:])
        assert lab.session.text_of(list(trial.tokens)).decode().strip() == trial.answer


def test_ratios_of_one_method_share_a_reading(lab: Lab) -> None:
    """A trial forgets one prompt, its own; a reading forgets one more."""
    lab.prompt(CONTEXT, IMAGES, question=QUESTION)
    readings = []
    for way in (
        Compression(0.5, "snapkv"),
        Compression(0.2, "snapkv"),
        Compression(important_ratio=0.1, recent_ratio=0.2, method="snapkv"),
        Compression(0.2, "h2o"),
        Compression(0.1, "roco"),
        Compression(),
    ):
        before = lab.session.epoch
        lab.trial(way)
        readings.append(lab.session.epoch - before - 1)
    assert readings == [1, 0, 0, 1, 0, 0]

"""``lookm eval milebench``: the run and its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from lookm_cpp.evaluation.arms import Arm
from lookm_cpp.evaluation.lab import Lab, Setup, looks_at_window
from lookm_cpp.evaluation.milebench_data import LEVELS, TASKS, Dataset, Sample
from lookm_cpp.evaluation.milebench_metrics import score
from lookm_cpp.evaluation.milebench_prompt import Limits, build_prompt
from lookm_cpp.evaluation.records import Record, Records

_TEMPLATE_TOKENS = 64  # reserved for the chat template, which MileBench does not count


@dataclass(frozen=True)
class MileBenchRun:
    """A run: what is asked, and of which model.

    Attributes:
        setup: The model.
        arms: The ways of holding a prompt that are compared.
        datasets: The data sets.
        combined: Whether the data sets have combined images.
        max_tokens: Maximum number of tokens in an answer.
        max_context: Tokens of instruction and context; 0 for what answer and template leave of
            ``n_ctx``.
        image_tokens: Tokens of a picture; 0 for those of the first picture.
        given: Fields of ``Compression`` for all methods.
    """

    setup: Setup
    arms: Sequence[Arm]
    datasets: Sequence[Dataset]
    combined: bool
    max_tokens: int
    max_context: int
    image_tokens: int
    given: Mapping[str, Any] = field(default_factory=dict)

    def identity(self, variant: str) -> dict[str, Any]:
        """What records must share to be comparable."""
        setup = self.setup
        template = {"chat_template": setup.chat_template} if setup.chat_template else {}
        return {
            **template,
            "suite": "milebench",
            "model": setup.model.name,
            "bytes": setup.model.stat().st_size,
            "mmproj": setup.mmproj.name if setup.mmproj else "",
            "n_ctx": setup.options.get("n_ctx", 0),
            "text_overflow": "",
            "variant": variant,
            "max_tokens": self.max_tokens,
            "max_context": self.max_context,
            "image_tokens": self.image_tokens,
            **self.given,
        }


def run_milebench(
    run: MileBenchRun, records: Records, progress: Callable[[int, int], None]
) -> None:
    """Ask everything that has no record yet; ``progress(done, total)`` counts samples."""
    done = {(record["dataset"], record["arm"], record["sample_id"]) for record in records.all}
    caches = list(dict.fromkeys(arm.cache for arm in run.arms))
    total = len(caches) * sum(len(dataset.samples) for dataset in run.datasets)
    n = 0
    for cache in caches:
        arms = sorted(
            (arm for arm in run.arms if arm.cache == cache),
            key=lambda arm: looks_at_window(arm.compression),
        )
        with Lab(replace(run.setup, cache=cache), run.max_tokens) as lab:
            for dataset in run.datasets:
                limits = _limits(run, lab, dataset)
                for sample in dataset.samples:
                    left = [arm for arm in arms if (dataset.name, arm.key, sample.id) not in done]
                    if left:
                        records.add(_ask(lab, limits, dataset, sample, left, run))
                    n += 1
                    progress(n, total)


def _limits(run: MileBenchRun, lab: Lab, dataset: Dataset) -> Limits:
    pictures = (image for sample in dataset.samples for image in sample.images)
    first = next(pictures, None)
    image_tokens = run.image_tokens or (lab.image_cells(str(first)) if first else 0)
    max_context = run.max_context or lab.session.n_ctx - run.max_tokens - _TEMPLATE_TOKENS
    if max_context < 1:
        raise ValueError(
            f"--max-tokens is {run.max_tokens}, expected less than n_ctx {lab.session.n_ctx}"
        )
    return Limits(
        max_context,
        image_tokens,
        lab.session.tokens_of,
        lambda tokens: lab.session.text_of(list(tokens)).decode("utf-8", "ignore"),
    )


def _ask(
    lab: Lab,
    limits: Limits,
    dataset: Dataset,
    sample: Sample,
    arms: Sequence[Arm],
    run: MileBenchRun,
) -> list[Record]:
    prompt = build_prompt(dataset, sample, limits, combined=run.combined)
    found = []
    try:
        lab.prompt(prompt.text, [str(image) for image in prompt.images])
        for arm in arms:
            (trial,) = lab.trial(arm.compression, seed=sample.id)
            found.append(
                {
                    "dataset": dataset.name,
                    "arm": arm.key,
                    "sample_id": sample.id,
                    "image": [str(image) for image in prompt.images],
                    "question": prompt.text,
                    "gt_response": sample.response,
                    "gen_model_id": run.setup.model.name,
                    "pred_response": trial.answer,
                    "gen_kwargs": {"max_tokens": run.max_tokens, "temperature": 0.0, **_given(arm)},
                    "score": score(
                        dataset.name,
                        dataset.question_type,
                        sample.response,
                        trial.answer,
                        sample.choices,
                    ),
                    "prompt_cells": trial.prompt_cells,
                    "kept_cells": trial.kept_cells,
                    "kv_bytes": trial.kv_bytes,
                }
            )
    except ValueError as error:
        raise ValueError(f"{dataset.name}, sample {sample.id}: {error}") from error
    return found


def _given(arm: Arm) -> dict[str, Any]:
    default = type(arm.compression)()
    options = {
        name: value
        for name, value in asdict(arm.compression).items()
        if value != getattr(default, name)
    }
    return {"cache": arm.cache, **options}


@dataclass(frozen=True)
class MileBenchRow:
    """One arm's scores.

    Attributes:
        arm: The arm.
        datasets: Score of each data set, of 100, with two decimals as in MileBench.
        levels: The same by number of pictures, for each data set.
        tasks: Means over the data sets of a task, for the tasks whose data sets are all there.
        kept_share: Kept cells divided by all cells, over all samples.
        kv_bytes: Mean bytes of the kept cells.
    """

    arm: Arm
    datasets: dict[str, float]
    levels: dict[str, dict[str, float]]
    tasks: dict[str, float]
    kept_share: float
    kv_bytes: float

    def as_dict(self) -> dict[str, Any]:
        """The row as a dict, ready for JSON."""
        named = {"method": self.arm.name, "cache": self.arm.cache, "ratio": self.arm.budget}
        return {**named, **{name: value for name, value in vars(self).items() if name != "arm"}}


def rows_of(run: MileBenchRun, records: Sequence[Record]) -> list[MileBenchRow]:
    """A row for each arm; there must be records of every sample."""
    rows = []
    for arm in run.arms:
        datasets, levels, found = {}, {}, []
        for dataset in run.datasets:
            mine = {
                r["sample_id"]: r
                for r in records
                if (r["arm"], r["dataset"]) == (arm.key, dataset.name)
            }
            answers = [mine[sample.id] for sample in dataset.samples]
            datasets[dataset.name] = round(100 * fmean(answer["score"] for answer in answers), 2)
            by_level: dict[str, list[float]] = {level: [] for level in LEVELS}
            for sample, answer in zip(dataset.samples, answers, strict=True):
                by_level.setdefault(sample.level, []).append(answer["score"])
            levels[dataset.name] = {
                name: round(100 * fmean(some), 2) for name, some in by_level.items() if some
            }
            found += answers
        tasks = {
            task: round(fmean(datasets[name] for name in names), 2)
            for task, names in TASKS.items()
            if set(names) <= set(datasets)
        }
        kept, cells = (
            sum(answer[name] for answer in found) for name in ("kept_cells", "prompt_cells")
        )
        kv_bytes = fmean(answer["kv_bytes"] for answer in found)
        rows.append(MileBenchRow(arm, datasets, levels, tasks, kept / cells, kv_bytes))
    return rows

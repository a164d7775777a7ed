"""MileBench's files: ``ROOT/NAME/NAME.json``, and folders with pictures next to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEVELS = ("Few", "Medium", "Many")

# Task -> data sets. A task's score is the mean of its sets'.
TASKS = {
    "T-1": ("ActionLocalization", "ActionPrediction", "ActionSequence"),
    "T-2": ("ObjectExistence", "ObjectInteraction", "MovingAttribute", "ObjectShuffle"),
    "T-3": ("EgocentricNavigation", "MovingDirection"),
    "T-4": ("CounterfactualInference", "StateChange", "CharacterOrder", "SceneTransition"),
    "S-1": ("WebQA", "TQA", "MultiModalQA", "WikiVQA"),
    "S-2": ("SlideVQA", "OCR-VQA", "DocVQA"),
    "S-3": ("Spot-the-Diff", "CLEVR-Change", "IEdit"),
    "S-4": ("MMCoQA", "ALFRED"),
    "S-5": ("nuscenes",),
    "N-1": ("TextNeedleInAHaystack",),
    "N-2": ("ImageNeedleInAHaystack",),
    "I-1": ("GPR1200",),
}


@dataclass(frozen=True)
class Sample:
    """One question.

    Attributes:
        id: Its number in the data set.
        instruction: The text that comes first.
        context: Text with ``{image#k}`` and ``{table#k}`` for the pictures.
        images: Picture files, in order.
        n_places: How many pictures the context may name. With combined pictures, that is more than
            the number of ``images``.
        choices: The options, if there are any.
        response: The right answer.
        level: Few, Medium or Many pictures.
    """

    id: int
    instruction: str
    context: str
    images: tuple[Path, ...]
    n_places: int
    choices: tuple[str, ...]
    response: str
    level: str


@dataclass(frozen=True)
class Dataset:
    """A data set or a variant; ``question_type`` is ``multi-choice`` or ``open-ended``."""

    name: str
    question_type: str
    samples: tuple[Sample, ...]


def read_dataset(
    root: Path, name: str, *, adversarial: bool = False, combined: int | None = None
) -> Dataset:
    """Read a data set or a variant of it.

    Args:
        root: The folder of all data sets.
        name: The data set.
        adversarial: Read ``NAME-adv.json``.
        combined: Number of pictures that all others are combined into. With 1, the file is the
            same; with more, it is ``NAME_combined_N.json``. The pictures are in
            ``combined_N_images`` instead of ``images``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It does not have MileBench's form.
    """
    suffix = "-adv" if adversarial else f"_combined_{combined}" if combined and combined > 1 else ""
    file = root / name / f"{name}{suffix}.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"--data: {str(file)!r} does not exist, expected MileBench's {name}"
        )
    folder = "images" if combined is None else f"combined_{combined}_images"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        instructions = stored["meta_data"]["task_instruction"]
        samples = tuple(
            _sample(entry, instructions, file.parent / folder, folder) for entry in stored["data"]
        )
        found = Dataset(name, stored["meta_data"]["question_type"], samples)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"--data: {str(file)!r} is not in MileBench's form ({type(error).__name__}: {error}), "
            "expected meta_data, and data with task_instance, response and sample_id"
        ) from error
    if not samples:
        raise ValueError(f"--data: {str(file)!r} has no samples, expected at least one")
    if len({sample.id for sample in samples}) < len(samples):
        raise ValueError(f"--data: {str(file)!r} has a sample_id twice, expected each once")
    return found


def _sample(entry: dict[str, Any], instructions: list[str], folder: Path, key: str) -> Sample:
    instance = entry["task_instance"]
    paths = instance["images_path" if key == "images" else key]
    return Sample(
        int(entry["sample_id"]),
        instructions[int(entry["task_instruction_id"])],
        instance["context"],
        tuple(folder / path for path in paths),
        len(instance["images_path"]),
        tuple(str(choice) for choice in instance.get("choice_list", ())),
        str(entry["response"]),
        str(entry.get("image_quantity_level", "")),
    )

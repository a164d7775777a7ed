"""`python -m training`: data, stages 0 and 1, export and evaluation, up to two GGUF files."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from . import data, evaluate, export, stage0, stage1, tokenizer
from .config import Config, ModelSize, smoke
from .runtime import Runtime

SHIPPED = Path(__file__).resolve().parent.parent / "python" / "lookm_cpp" / "models"


def main() -> None:
    """Runs whatever of the pipeline is not done yet."""
    arguments = _arguments()
    config = _configure(arguments)
    runtime = Runtime(config)
    runtime.log(f"writing to {config.out}, products in {runtime.dtype}")
    if arguments.evaluate:
        decoder, vision = arguments.evaluate
        _evaluate(runtime, "evaluation", decoder, vision)
        return
    pools = data.prepare(config, runtime.log)
    words = _tokenizer(config)
    net = stage0.run(runtime, pools)
    model = stage1.run(runtime, pools, net, words)
    files = export.write(model, words, config.out)
    runtime.log(f"wrote {files.decoder_q8} and {files.vision}")
    ours = _evaluate(runtime, "accuracy", files.decoder_q8, files.vision)
    if not arguments.smoke:
        shipped = export.Files.under(SHIPPED)
        theirs = _evaluate(runtime, "shipped", shipped.decoder_q8, shipped.vision)
        verdict = "at least as good as" if ours >= theirs else "not as good as"
        runtime.log(
            f"{verdict} the shipped files: {ours:.3f} against {theirs:.3f} over all tasks and sizes"
        )


def _evaluate(runtime: Runtime, name: str, decoder: Path, vision: Path) -> float:
    """Evaluates two GGUF files; writes <name>.json and <name>.md.

    Returns the mean over tasks and sizes.
    """
    config = runtime.config
    runtime.log(f"evaluating {decoder} with {vision}")
    pools = data.prepare(config, runtime.log)
    model, words = export.read(decoder, vision, config.model)
    results = evaluate.held_out(model, words, pools["test"], config.evaluation)
    right, asked = evaluate.demo(model, words, SHIPPED / "demo")
    text = evaluate.table(results)
    (config.out / f"{name}.json").write_text(
        json.dumps({"held_out": results, "demo": [right, asked]}, indent=1)
    )
    (config.out / f"{name}.md").write_text(f"{text}\n\nDemo: {right} of {asked}.\n")
    runtime.console.print(text, markup=False)
    runtime.log(
        f"demo: {right} of {asked} right; mean over tasks and sizes {evaluate.overall(results):.3f}"
    )
    return evaluate.overall(results)


def _tokenizer(config: Config) -> Tokenizer:
    """The tokenizer, kept beside the pools."""
    path = config.out / "data" / "tokenizer.json"
    if not path.exists():
        tokenizer.train().save(str(path))
    return Tokenizer.from_file(str(path))


def _configure(arguments: argparse.Namespace) -> Config:
    config = Config(
        model=ModelSize(),
        seed=arguments.seed,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    if arguments.smoke:
        config = smoke(config)
    return replace(
        config,
        out=arguments.out or (config.out / "smoke" if arguments.smoke else config.out),
        compile=config.compile and not arguments.no_compile,
        stage0=replace(config.stage0, steps=arguments.stage0_steps or config.stage0.steps),
        stage1=replace(config.stage1, steps=arguments.stage1_steps or config.stage1.steps),
        evaluation=replace(
            config.evaluation, contexts=arguments.contexts or config.evaluation.contexts
        ),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="everything in a couple of minutes; learns nothing")
    add("--out", type=Path, help="folder of the run (build/training, or build/training/smoke)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=0, help="threads of torch (its own choice)")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    add(
        "--no-compile",
        action="store_true",
        help="do without torch.compile (which needs a C++ compiler)",
    )
    add("--stage0-steps", type=int, help="steps of the vision encoder's pre-training")
    add("--stage1-steps", type=int, help="steps of the decoder's training")
    add("--contexts", type=int, help="held-out prompts of each size")
    add(
        "--evaluate",
        nargs=2,
        type=Path,
        metavar=("LLM", "MMPROJ"),
        help="only evaluate these two GGUF files",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Turns raw figures into tables for the terminal and the README, and judges the goals."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from lookm_cpp.bench.alternation import speedup
from lookm_cpp.bench.process_memory import MIB
from lookm_cpp.bench.text_table import Table

from benchmarks.cost_record import Compression, Decode, Prefill, Results
from benchmarks.models import llava_shape

DECODE_GOAL = 0.97  # minimum, relative to llama.cpp's speed with the same number of cells
COST_GOAL = 0.05  # maximum fraction of prefill
MEMORY_GOAL = 0.05  # maximum fraction of the full KV
GB = 1e9


def verdict(good: bool) -> str:
    """``met`` or ``missed``."""
    return "met" if good else "missed"


def switch(on: bool) -> str:
    """``on`` or ``off``."""
    return "on" if on else "off"


def decode_table(results: Results) -> Table:
    """Decode speed compared with llama.cpp's at the same depth."""
    columns = (
        "prompt",
        "ratio",
        "cells kept",
        "tokens/s",
        "native",
        "ours / native",
        "quartiles",
        "goal >= 0.97",
    )
    table = Table("Decode after compression beside llama.cpp at that depth", columns)
    for pairs in results.decodes:
        ratio = speedup(pairs.ours, pairs.native)
        table.rows.append(
            [
                str(pairs.n_cells),
                f"{pairs.kv_ratio:g}",
                f"{pairs.n_keep} ({pairs.n_keep / pairs.n_cells:.1%})",
                f"{1 / median(pairs.ours):.2f}",
                f"{1 / median(pairs.native):.2f}",
                f"{ratio.median:.3f}",
                f"{ratio.low:.3f} - {ratio.high:.3f}",
                verdict(ratio.median >= DECODE_GOAL),
            ]
        )
    table.note = (
        f"Medians of {results.settings['n_blocks']} pairs of blocks of "
        f"{results.settings['block_tokens']} tokens. Ratio 1.0 compresses nothing: "
        "its pair shows the noise of the measurement."
    )
    return table


def roofline_table(results: Results) -> Table:
    """Bytes that a token reads, and the bandwidth that follows from its speed."""
    columns = (
        "prompt",
        "ratio",
        "KV read / token",
        "all read / token",
        "GB/s",
        "of bandwidth",
        "faster",
        "by bytes",
    )
    table = Table("Decode against the memory bandwidth", columns)
    full: dict[int, Decode] = {
        pairs.n_cells: pairs for pairs in results.decodes if pairs.kv_ratio == 1.0
    }
    for pairs in results.decodes:
        seconds, base = median(pairs.ours), full.get(pairs.n_cells, pairs)
        rate = pairs.bytes_per_token / seconds
        kv_bytes = pairs.bytes_per_token - llava_shape(pairs.layers).weight_bytes()
        table.rows.append(
            [
                str(pairs.n_cells),
                f"{pairs.kv_ratio:g}",
                f"{kv_bytes / MIB:.0f} MiB",
                f"{pairs.bytes_per_token / MIB:.0f} MiB",
                f"{rate / GB:.1f}",
                f"{rate / results.read_bandwidth:.0%}",
                f"{median(base.ours) / seconds:.2f} x",
                f"{base.bytes_per_token / pairs.bytes_per_token:.2f} x",
            ]
        )
    weights = llava_shape(results.settings["layers"]).weight_bytes()
    table.note = (
        f"Weights are {weights / MIB:.0f} MiB of what a token reads; NumPy reads "
        f"{results.read_bandwidth / GB:.1f} GB/s on the same threads. `faster` is tokens/s over "
        "those at ratio 1.0, minutes apart, `by bytes` what reading fewer bytes at an unchanged "
        "rate would give: the weights, which no cache compression shrinks, bound it."
    )
    return table


@dataclass
class Cost:
    """Scoring and compression of prompts of one length, compared with their prefill."""

    plain: list[Prefill]
    scored: list[Prefill]
    compressions: list[Compression]

    @property
    def bare_seconds(self) -> float:
        """Prefill of the scored runs without the time of scoring."""
        return median(run.seconds - run.score_seconds for run in self.scored)

    @property
    def score_share(self) -> float:
        """Scoring as a fraction of prefill, by score_tap's own clock."""
        return median(run.score_seconds / (run.seconds - run.score_seconds) for run in self.scored)

    @property
    def compress_share(self) -> float:
        """Compression at the slowest ratio as a fraction of prefill, by its own clock."""
        return max(run.seconds for run in self.compressions) / self.bare_seconds

    @property
    def wall_share(self) -> float:
        """How much longer a scored and compressed run takes than a plain one, as a fraction."""
        whole = median(run.seconds for run in self.scored) + max(
            run.seconds for run in self.compressions
        )
        return whole / median(run.seconds for run in self.plain) - 1


def costs(results: Results) -> dict[tuple[int, bool, int], Cost]:
    """Costs by layers, flash attention and length of the prompt."""
    table: dict[tuple[int, bool, int], Cost] = {}
    for done in results.compressions:
        key = (done.layers, done.flash_attn, done.n_cells)
        table.setdefault(key, Cost([], [], [])).compressions.append(done)
    for run in results.prefills:
        cost = table.get((run.layers, run.flash_attn, run.n_cells))
        if cost:
            (cost.scored if run.scored else cost.plain).append(run)
    return table


def cost_table(results: Results) -> Table:
    """Scoring and compression as fractions of prefill."""
    columns = (
        "prompt",
        "layers",
        "flash",
        "plain s",
        "scoring",
        "compression",
        "both",
        "by the wall",
        "goal <= 5 %",
    )
    table = Table("Scoring and compression as a share of prefill", columns)
    for (layers, flash, n_cells), cost in costs(results).items():
        both = cost.score_share + cost.compress_share
        table.rows.append(
            [
                str(n_cells),
                str(layers),
                switch(flash),
                f"{median(run.seconds for run in cost.plain):.2f}",
                f"{cost.score_share:.1%}",
                f"{cost.compress_share:.1%}",
                f"{both:.1%}",
                f"{cost.wall_share:+.1%}",
                verdict(both <= COST_GOAL),
            ]
        )
    table.note = (
        "Shares are by the code's own clocks, over the same run's prefill without them: scoring "
        "the median of the runs, compression the slowest ratio. `by the wall` compares whole runs, "
        "scored and compressed against plain, and holds the machine's drift between them."
    )
    return table


def flash_table(results: Results) -> Table:
    """Prefill with flash attention on and off."""
    columns = (
        "prompt",
        "layers",
        "plain on",
        "plain off",
        "scored on",
        "scored off",
        "off / on, scored",
    )
    table = Table("Prefill with flash attention on and off, seconds", columns)
    table_of = costs(results)
    layers = int(results.settings["flash_layers"])
    for n_cells in results.settings["cells"]:
        on, off = table_of[layers, True, n_cells], table_of[layers, False, n_cells]
        seconds = [
            median(run.seconds for run in runs)
            for runs in (on.plain, off.plain, on.scored, off.scored)
        ]
        table.rows.append(
            [
                str(n_cells),
                str(layers),
                *(f"{s:.2f}" for s in seconds),
                f"{seconds[3] / seconds[2]:.2f}",
            ]
        )
    table.note = "Below 1 the prefill with flash attention off is the faster one."
    return table


def memory_table(results: Results) -> Table:
    """Peak extra memory as a fraction of the full KV."""
    columns = (
        "prompt",
        "ratio",
        "layers",
        "flash",
        "full KV",
        "peak extra",
        "share",
        "process",
        "goal <= 5 %",
    )
    table = Table("Peak extra memory of scoring and compression", columns)
    for done in results.compressions:
        share = done.peak_bytes / done.kv_bytes
        table.rows.append(
            [
                str(done.n_cells),
                f"{done.kv_ratio:g}",
                str(done.layers),
                switch(done.flash_attn),
                f"{done.kv_bytes / MIB:.0f} MiB",
                f"{done.peak_bytes / MIB:.1f} MiB",
                f"{share:.1%}",
                "-" if done.process_growth is None else f"{done.process_growth / MIB:.1f} MiB",
                verdict(share <= MEMORY_GOAL) if done.layers == results.settings["layers"] else "-",
            ]
        )
    table.note = (
        "`peak extra` is counted where it is allocated. `process` is how much higher the kernel "
        "saw the process's resident memory than in a plain prefill by the same context just "
        "before: a check that nothing large was left out of the count; pages that were freed "
        "before are used again and do not show. With fewer layers the KV is smaller and work "
        f"buffers are not, so the goal is judged on {results.settings['layers']} layers."
    )
    return table


def goals(results: Results) -> list[str]:
    """One sentence for each goal, with its worst case."""
    ratios = [speedup(pairs.ours, pairs.native).median for pairs in results.decodes]
    lowest, worst = min(zip(ratios, results.decodes, strict=True), key=lambda pair: pair[0])
    slow = sum(ratio < DECODE_GOAL for ratio in ratios)
    shares = {key: cost.score_share + cost.compress_share for key, cost in costs(results).items()}
    ours = {key: share for key, share in shares.items() if key[0] == results.settings["layers"]}
    key = max(ours, key=lambda k: ours[k])
    dear = sum(share > COST_GOAL for share in ours.values())
    big = max(
        (done.peak_bytes / done.kv_bytes, done.n_cells)
        for done in results.compressions
        if done.layers == results.settings["layers"]
    )
    return [
        f"Decode >= {DECODE_GOAL} of llama.cpp's own at that depth: **{verdict(not slow)}**"
        f"{f' in {slow} of {len(results.decodes)} cases' if slow else ''}; lowest {lowest:.3f} "
        f"({worst.n_cells} cells at ratio {worst.kv_ratio:g}).",
        f"Scoring and compression <= {COST_GOAL:.0%} of prefill: "
        f"**{verdict(not dear)}**{f' in {dear} of {len(ours)} cases' if dear else ''}; highest "
        f"{ours[key]:.1%} ({key[2]} cells, {key[0]} layers, flash attention {switch(key[1])}).",
        f"Peak extra memory <= {MEMORY_GOAL:.0%} of the full KV: "
        f"**{verdict(big[0] <= MEMORY_GOAL)}**; highest {big[0]:.1%} ({big[1]} cells).",
    ]


def all_tables(results: Results) -> list[Table]:
    """All tables, in the order of the README."""
    makers = (decode_table, roofline_table, cost_table, flash_table, memory_table)
    return [make(results) for make in makers]

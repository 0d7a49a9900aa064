"""docs/accuracy.md: how far expected time is off, where and why, from measured tables: the same tables, the same bytes.

Numbers are computed. What they are put down to is written here, for the tables named beside it, and is said only where
the numbers bear it out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from predict.errors import BadRecord
from predict.expected.calibrations import CALIBRATIONS
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.resources import Resource, find_ceiling
from predict.units import DTYPES, binary_bytes, duration, percent, si
from reports.accuracy.compare import compare_tables, draw_table_comparison
from reports.accuracy.importers import Imported
from reports.accuracy.plots import DRAWINGS, FAMILIES, TITLES, DrawnFile, draw_files, labels, to_small_png
from reports.accuracy.validate import BARS, Group, Validation, bar_of, usual_heads, worst_rows
from reports.calibration.errors import Errors, errors
from reports.calibration.fit import Positions
from reports.figures import NothingToDraw
from reports.files import template, write_file

TEMPLATE = Path(__file__).with_name("accuracy.md.jinja")
FOLDER = "accuracy"  # of the figures, beside accuracy.md
WORST = 20
WORST_SHARE = 0.1  # of the rows of a small group are its worst at most
BEARS_OUT = 1.15  # a region is a weakness from this many times the error elsewhere on
FEW_VALUES = 8  # up to so many sizes are shown one by one, more by octaves
NAPKIN_ENDS_S = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


@dataclass(frozen=True, slots=True)
class Weakness:
    """A region of one group where expected time is off, as a condition on its columns, and what that is put down to."""

    table: str
    group: str  # the group's title
    where: str
    because: str
    kernel: str = ""  # part of its name, where several have that title


_A100_GEMM, _H100_GEMM = "a100-sxm_gemm_vllm-0.14.0", "h100-sxm_gemm_vllm-0.24.0"
_A100_PREFILL, _H100_PREFILL = "a100-sxm_prefill_vllm-0.14.0", "h100-sxm_prefill_vllm-0.24.0"
_A100_DECODE, _H100_DECODE = "a100-sxm_decode_vllm-0.14.0", "h100-sxm_decode_vllm-0.24.0"
_A100_NCCL, _H100_NCCL = "a100-sxm_nccl-2.27.3", "h100-sxm_nccl-2.29.2"
_SCHEDULING = (
    "A cost of each request that grows with the batch, and is gone from batch 1024 on: scheduling of sequences, by its"
    " shape. One constant for each request cannot follow it."
)
_MESSAGES = "Times jump where NCCL changes its protocol; a smooth curve passes between the steps."

# Written for these tables, after looking at them.
WEAKNESSES: tuple[Weakness, ...] = (
    Weakness(
        _A100_GEMM, "matmul bf16 on a100-sxm-80gb", "2 <= m <= 16 and k <= 768",
        "The library picks a slower kernel for some n: with m = 4 and k = 32, n from 6144 to 12288 takes 6.2 us,"
        " between 3.3 us at n = 5120 and 3.7 us at n = 16384.",
    ),
    Weakness(
        _A100_GEMM, "matmul bf16 on a100-sxm-80gb", "m == 1",
        "Another kernel, by its times, as for a matrix times a vector: faster than the form for small weights, slower"
        " here and there.",
    ),
    Weakness(
        _A100_GEMM, "matmul bf16 on a100-sxm-80gb", "m >= 32 and n * k <= 4096",
        "Next to nothing to multiply: what these calls take beyond the launch is not explained.",
    ),
    Weakness(
        _H100_GEMM, "matmul bf16 on h100-sxm", "129 <= m <= 513",
        "Between two tile heights, and worst one row above them (129, 193, 257, 513), the library seems to take"
        " another tile than the one that is the fastest by the form.",
    ),
    Weakness(
        _H100_GEMM, "matmul bf16 on h100-sxm", "n == 32 and k >= 51200 and 64 < m <= 256",
        "The form splits k, the library does so for some m only: at k = 65536 m = 128 takes 9.4 us, m = 129 16.6 us.",
    ),
    Weakness(
        _H100_GEMM, "matmul fp8 on h100-sxm", "m > 512 and k >= 8192",
        "One row more can cost almost as much again: 68 us at m = 512, 126 us at m = 513 (n = 4096, k = 16384). The"
        " form's tiles of at most 256 rows do not explain that much.",
    ),
    Weakness(
        _H100_GEMM, "matmul fp8 on h100-sxm", "m >= 4096 and n * k <= 65536",
        "By the form almost all of the time is narrowing A: two constants are too few for it.",
    ),
    Weakness(
        _H100_GEMM, "matmul fp8 on h100-sxm", "n >= 51200 and k == 32",
        "The result is all there is to write, and that is slow: m = 4 takes 16 us at n = 65536, 7 us at n = 16384.",
    ),
    Weakness(
        _H100_GEMM, "matmul fp8_block on h100-sxm", "m >= 16384 and n * k <= 2 ** 22",
        "Narrowing takes less for a tall A than its two constants say, which smaller m decided.", "DeepGemm",
    ),
    Weakness(
        _H100_GEMM, "matmul fp8_block on h100-sxm", "m >= 2048 and n * k >= 2 ** 20",
        "The few shapes of this table that are longer than the CPU's part of the call; the probes are all within it, so"
        " the constants of the GPU's part are priors.", "CutlassFp8Block",
    ),
    Weakness(
        _A100_PREFILL, "attention_prefill bf16 on a100-sxm-80gb", "seq == 1",
        "A prompt of one token takes the path of decode, by its times: 1.6x where there are several KV heads, shared,"
        " and a batch, whose queries and outputs are copied (`layout` there). Prefill has no such term.",
    ),
    Weakness(
        _A100_PREFILL, "attention_prefill bf16 on a100-sxm-80gb", "batch * heads <= 4 and seq >= 4096",
        "Few blocks with many tiles each; what slows them down is not explained.",
    ),
    Weakness(
        _H100_PREFILL, "attention_prefill bf16 on h100-sxm", "batch * heads == 1 and seq >= 10240",
        "One head alone: the kernel shares out its tiles better than the whole splits of the form.", "fa3",
    ),
    Weakness(
        _H100_PREFILL, "attention_prefill bf16 on h100-sxm", "head_dim == 512",
        "FA4 is another kernel, which the form does not describe: do not read its constants as anything.", "fa4",
    ),
    Weakness(
        _H100_PREFILL, "attention_prefill bf16, fp8 cache on h100-sxm", "seq >= 6144",
        "Long prompts reach a higher share of the peak than the one that fits all others. Probably the cache costs"
        " short prompts more, for which the form has no term.",
    ),
    Weakness(
        _H100_PREFILL, "attention_prefill bf16, fp8 cache, window on h100-sxm", "head_dim == 192",
        "Not explained.",
    ),
    Weakness(
        _H100_PREFILL, "attention_prefill bf16, window on h100-sxm", "head_dim == 192",
        "Not explained.",
    ),
    Weakness(
        _A100_DECODE, "attention_decode bf16 on a100-sxm-80gb", "48 <= batch * kv_heads <= 128 and context >= 4096",
        "Nearly as many blocks as SMs: the form does not split their keys any more, the kernel, by its times, does.",
    ),
    Weakness(
        _A100_DECODE, "attention_decode bf16 on a100-sxm-80gb", "batch * kv_heads <= 2 and context >= 8192",
        "One or two long sequences, probably in fewer parts than the form splits them into.",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16 on h100-sxm", "batch == 256 or batch == 512", _SCHEDULING, "fa3"
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16 on h100-sxm", "batch * kv_heads == 1 and context >= 65536",
        "One long sequence, probably in fewer parts than the form splits it into.", "fa3",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16 on h100-sxm", "head_dim == 512",
        "FA4 is another kernel, which the form does not describe: constants end at their bounds, and the time of a"
        " request grows up to batch 512 and falls at 1024.", "fa4",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, window on h100-sxm", "batch == 256 or batch == 512", _SCHEDULING
    ),
    *(
        Weakness(
            _H100_DECODE, f"attention_decode {formats} on h100-sxm",
            "batch * kv_heads >= 256 and context >= 256 and window == 128",
            "Bytes decide here, and the form counts those of the keys within the window; the kernel probably reads"
            " whole tiles, up to twice as many.",
        )
        for formats in ("bf16, window", "bf16, fp8 cache, window")
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, fp8 cache on h100-sxm", "head_dim == 256",
        "Where there is much to read these heads take as long as with a cache in 16 bits, in spite of half the bytes:"
        " probably another, slower path.",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, fp8 cache on h100-sxm", "batch * kv_heads <= 8 and context >= 32768",
        "The probes chose against splitting keys, with the rate of a single SM at its bound to make up for it; long"
        " sequences are split all the same. Do not read these constants as rates.",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, fp8 cache on h100-sxm", "batch == 256 or batch == 512", _SCHEDULING
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, fp8 cache, window on h100-sxm", "head_dim == 256",
        "Probably the same slower path.",
    ),
    Weakness(
        _H100_DECODE, "attention_decode bf16, fp8 cache, window on h100-sxm", "batch == 256 or batch == 512",
        _SCHEDULING,
    ),
    Weakness(
        _A100_NCCL, "all_reduce fp16 on a100-sxm-80gb", "gpus == 2 and message_bytes == 2 ** 20",
        "From 512 KiB to 1 MiB the time doubles, 19 us to 41 us, and then grows slowly: a change of protocol.",
    ),
    Weakness(_A100_NCCL, "all_reduce fp16 on a100-sxm-80gb", "2 ** 14 <= message_bytes <= 2 ** 23", _MESSAGES),
    Weakness(_H100_NCCL, "all_reduce fp16 on h100-sxm", "2 ** 14 <= message_bytes <= 2 ** 23", _MESSAGES),
    Weakness(
        _H100_NCCL, "all_to_all fp16 on h100-sxm", "message_bytes <= 2 ** 21",
        "Noise first: single readings of 16 us to 18 us among neighbors of 7 us to 9 us. Then a plateau of 14 us to"
        " 15 us from 128 KiB on, which the form does not have.",
    ),
    Weakness(
        _H100_NCCL, "all_to_all int8 on h100-sxm", "message_bytes <= 2 ** 21",
        "The same plateau, and less of the noise.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One group as the document shows it."""

    group: Group
    label: str
    found: Errors
    bar: float | None
    usual: Errors  # of what the bar is held to: heads of usual size

    @property
    def is_met(self) -> bool:
        """Whether expected time is within the bar; true where there is none."""
        return self.bar is None or self.usual.mape_expected <= self.bar


@dataclass(frozen=True, slots=True)
class Part:
    """A heading and what stands below it: sentences, a list of points, a table of text."""

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    sentences: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


def write_accuracy(imported: Imported, validation: Validation, out: Path) -> list[Path]:
    """Write out/accuracy.md and out/accuracy/*.png, each file in one step; return their paths."""
    groups = _in_order(validation.groups)
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_files(groups, folder)
    compared = folder / "roofline_share.png"
    notes = _draw_comparison(imported, compared)
    document = out / "accuracy.md"
    write_file(document, render(groups, validation.skipped, drawn, notes).encode())
    return [document, *(each.path for each in drawn), *([compared] if notes is not None else [])]


def render(
    groups: Sequence[Group],
    skipped: Mapping[tuple[str, str], int],
    drawn: Sequence[DrawnFile],
    notes: Sequence[str] | None,
) -> str:
    """The text of accuracy.md; `notes` of the comparison figure, None where there is none."""
    entries = _entries(groups)
    pairs = _pairs(groups)
    return template(TEMPLATE).render(
        entries=entries,
        shapes=f"{sum(entry.found.rows for entry in entries):,}",
        tables=_table_lines(groups),
        is_published=any(_source(group.table) for group in groups),
        skipped=[f"{table}: {rows:,} rows left out: {reason}" for (table, reason), rows in skipped.items()],
        bars=[(op, dtype, percent(bar)) for (op, dtype), bar in BARS.items()],
        missed=[entry for entry in entries if not entry.is_met],
        errors_part=_errors_part(entries),
        faster=[_faster_part(entry) for entry in entries if entry.found.faster_than_bound],
        constants=list(_constant_parts(entries)),
        captions=[(each.alt, each.caption) for each in DRAWINGS],
        figures=[(f"{TITLES[each.family]}: {each.drawing.alt}", f"{FOLDER}/{each.path.name}") for each in drawn],
        failures=list(_failure_parts(entries)),
        shares=_shares_part([pair for pair in pairs if pair.a.op not in COLLECTIVES]),
        shares_of_collectives=_shares_part([pair for pair in pairs if pair.a.op in COLLECTIVES]),
        gpus=list(dict.fromkeys(group.gpu for group in groups)),
        teaches=_teaches(pairs),
        comparison_notes=notes,
        comparison=f"{FOLDER}/roofline_share.png",
    )


def find_weaknesses(group: Group, weaknesses: Sequence[Weakness] = WEAKNESSES) -> Iterator[str]:
    """A sentence for each weakness that is this group's, and that its numbers bear out."""
    rows = group.judged
    for weakness in weaknesses:
        is_its = (weakness.table, weakness.group) == (group.table, group.title)
        if not is_its or weakness.kernel not in group.kernel_source:
            continue
        inside = np.asarray(rows.eval(weakness.where), dtype=bool)
        if not inside.any():
            continue
        there, elsewhere = rows[inside], rows[~inside]
        error = errors(there).mape_expected
        if len(elsewhere) and error < BEARS_OUT * errors(elsewhere).mape_expected:
            continue
        against = f", {percent(errors(elsewhere).mape_expected)} elsewhere" if len(elsewhere) else ""
        ratio = (there["time_s"] / there["expected_s"]).median()
        yield (
            f"`{weakness.where}` ({_shapes(len(there))}): off by {percent(error)}{against}; measured is"
            f" {ratio:.2f}x expected in the median. {weakness.because}"
        )


def hardest_sizes(group: Group, count: int = 2) -> list[str]:
    """The sizes of a dimension, one by one or by octave, with the largest error: at least 1 % of the shapes each."""
    rows = group.judged
    error = np.abs(rows["expected_s"] / rows["time_s"] - 1)
    found: list[tuple[float, str]] = []
    for name in TIME_MODELS[group.op].dims:
        few = rows[name].nunique() <= FEW_VALUES
        classes = rows[name] if few else np.floor(np.log2(rows[name].clip(lower=1)))
        means = error.groupby(classes).agg(["mean", "size"])
        for low, (mean, size) in means.iterrows():
            if size >= max(5, 0.01 * len(rows)) and mean > 1.2 * error.mean():
                text = f"{low:g}" if few else _octave(int(low))
                found.append((mean, f"{name} {text} ({percent(mean)} over {_shapes(size)})"))
    return [text for _, text in sorted(found, reverse=True)[:count]]


def _in_order(groups: Sequence[Group]) -> list[Group]:
    ops = list(TIME_MODELS)
    return sorted(groups, key=lambda group: (ops.index(group.op), group.gpu))


def _entries(groups: Sequence[Group]) -> list[Entry]:
    entries = []
    for group, label in zip(groups, labels(groups), strict=True):
        found, bar = errors(group.judged), bar_of(group)
        usual = found if bar is None else errors(usual_heads(group.judged))
        entries.append(Entry(group, label, found, bar, usual))
    return entries


def _source(table: str) -> str:
    """Who measured a table, where it is one that the calibrations which ship come from."""
    sources = (each.source for each in CALIBRATIONS.values())
    return next((source.partition("; ")[2] for source in sources if source.startswith(f"{table},")), "")


def _table_lines(groups: Sequence[Group]) -> list[str]:
    names = dict.fromkeys(group.table for group in groups)
    return [f"`{name}`" + (f", {source}" if (source := _source(name)) else "") for name in names]


def _errors_part(entries: Sequence[Entry]) -> Part:
    headings = (
        "GPU", "op", "dtype", "KV cache", "window", "kernel", "rows", "napkin MAPE", "expected MAPE", "median", "p90",
        "within 30 %", "beat the bound", "bar",
    )  # fmt: skip
    rows = []
    for entry in entries:
        group, found = entry.group, entry.found
        bar = "" if entry.bar is None else f"{percent(entry.bar)}, {'met' if entry.is_met else '**not met**'}"
        shares = (
            found.mape_napkin, found.mape_expected, found.median_error, found.p90_error, found.within_30_percent
        )  # fmt: skip
        rows.append(
            [
                group.gpu, group.op, group.dtype, group.kv_dtype or "", "yes" if group.window else "",
                group.kernel_source, f"{found.rows:,}", *map(percent, shares), f"{found.faster_than_bound:,}", bar,
            ]
        )  # fmt: skip
    return Part("Errors", headings, rows)


def _faster_part(entry: Entry) -> Part:
    """The rows of a group that beat its napkin, the furthest first."""
    group, dims = entry.group, TIME_MODELS[entry.group.op].dims
    under = group.judged[group.judged["time_s"] < group.judged["napkin_s"]]
    ratio = (under["time_s"] / under["napkin_s"]).sort_values(kind="stable")
    gpu = GPUS[group.gpu]
    dram = find_ceiling(Resource.DRAM, gpu.roofs).per_s
    most_bytes = float(under["napkin_s"].max()) * dram
    why = ""
    if group.op == "matmul" and gpu.l2_bytes is not None and most_bytes <= gpu.l2_bytes:
        why = (
            f" None of them moves more than {binary_bytes(round(most_bytes))}, and L2 holds"
            f" {binary_bytes(gpu.l2_bytes)}: operands were still there from the call before."
        )
    shown = ratio.index[:WORST]
    rows = [
        [
            *(f"{under.loc[row, name]:g}" for name in dims),
            duration(float(under.loc[row, "time_s"])),
            duration(float(under.loc[row, "napkin_s"])),
            f"{ratio[row]:.2f}",
        ]
        for row in shown
    ]
    of_all = f" The {len(shown)} furthest:" if len(shown) < len(under) else ""
    sentence = (
        f"{len(under):,} of {entry.found.rows:,} rows beat the bound, the furthest by taking {ratio.iloc[0]:.2f} of it."
    )
    return Part(
        f"{group.title}, {group.kernel_source}",
        (*dims, "measured", "bound", "of the bound"),
        rows,
        (sentence + why + of_all,),
    )


def _constant_parts(entries: Sequence[Entry]) -> Iterator[Part]:
    """A table for each family of ops of the constants, and what they mean."""
    for family, ops in FAMILIES.items():
        of_family = [entry for entry in entries if entry.group.op in ops]
        if not of_family:
            continue
        model = TIME_MODELS[ops[0]]  # the ops of a family share one form
        rows = [
            [
                entry.group.gpu,
                f"{entry.group.op}, {entry.label}" if len(ops) > 1 else entry.label,
                *(_constant_text(entry.group, name) for name in model.constants),
                *("yes" if entry.group.calibration.switches[name] else "no" for name in model.switches),
            ]
            for entry in of_family
        ]
        meanings = [f"`{name}` ({each.unit}): {each.meaning}" for name, each in model.constants.items()]
        meanings += [f"`{name}` (yes or no): {each.meaning}" for name, each in model.switches.items()]
        headings = ("GPU", "group", *model.constants, *model.switches)
        yield Part(TITLES[family], headings, rows, points=tuple(meanings))


def _constant_text(group: Group, name: str) -> str:
    constant, value = TIME_MODELS[group.op].constants[name], group.calibration.constants.get(name)
    if value is None or (constant.only_narrowed and not group.rows["term_narrow"].any()):
        return ""
    if constant.unit == "s":
        return duration(value)
    return si(value, "B/s") if constant.unit == "B/s" else f"{value:.3g}"


def _failure_parts(entries: Sequence[Entry]) -> Iterator[Part]:
    """For each group what can be said of its errors, and its worst rows."""
    for entry in entries:
        group, found = entry.group, entry.found
        count = min(WORST, math.ceil(WORST_SHARE * found.rows))
        worst = worst_rows(group, count)
        dims = [name for name in TIME_MODELS[group.op].dims if name != "window" or group.window]
        alone = worst["why"].str.startswith("this row alone")
        ratio = group.judged["time_s"] / group.judged["expected_s"]
        far = round((1 - found.within_30_percent) * found.rows)
        sentences = [
            f"Off by more than 30 %: {far:,} of {_shapes(found.rows)}; more than twice the expected time:"
            f" {int((ratio > 2).sum()):,}. Of the worst {count}, {int(alone.sum())} stand apart from neighbors that"
            " are as expected: a kernel of their own, or a disturbed measurement."
        ]
        if sizes := hardest_sizes(group):
            sentences.append(f"Errors by size are largest at {' and at '.join(sizes)}.")
        rows = [
            [
                *(f"{row[name]:g}" for name in dims),
                duration(row["time_s"]),
                duration(row["expected_s"]),
                duration(row["napkin_s"]),
                f"{row['ratio']:.2f}",
                f"{row['neighbors']:.2f}",
                str(row["largest_term"]),
                "row" if row["why"].startswith("this row alone") else "region",
            ]
            for row in worst.to_dict("records")
        ]
        headings = (*dims, "measured", "expected", "napkin", "ratio", "neighbors", "largest term", "what is off")
        points = tuple(find_weaknesses(group))
        yield Part(f"{group.gpu}, {group.op}: {entry.label}", headings, rows, tuple(sentences), points)


@dataclass(frozen=True, slots=True)
class Pair:
    """The shapes that two GPUs have of one op and format."""

    a: Group
    b: Group
    common: pd.DataFrame  # both sides' columns end in _a and _b

    @property
    def classes(self) -> Positions:
        """The number of the class of each shape, by its napkin on the first."""
        return np.searchsorted(np.array(NAPKIN_ENDS_S), self.common["napkin_s_a"].to_numpy())

    @property
    def of_napkin(self) -> tuple["pd.Series[float]", "pd.Series[float]"]:
        """The share of the roofline that each shape reaches."""
        rows = self.common
        return rows["napkin_s_a"] / rows["time_s_a"], rows["napkin_s_b"] / rows["time_s_b"]


def _pairs(groups: Sequence[Group]) -> list[Pair]:
    """Of each op and format, the groups of the two GPUs that share shapes; none where there are not two GPUs."""
    if len(gpus := list(dict.fromkeys(group.gpu for group in groups))) != 2:
        return []
    pairs = []
    for a in (group for group in groups if group.gpu == gpus[0]):
        for b in (group for group in groups if group.gpu == gpus[1]):
            if (a.op, a.dtype, a.kv_dtype, a.window) != (b.op, b.dtype, b.kv_dtype, b.window):
                continue
            common = a.rows.merge(b.rows, on=list(TIME_MODELS[a.op].dims), suffixes=("_a", "_b"))
            if not common.empty:
                pairs.append(Pair(a, b, common))
    return pairs


def _shares_part(pairs: Sequence[Pair]) -> Part | None:
    """Median share of the roofline of both GPUs, by what the napkin of the first takes."""
    if not pairs:
        return None
    a, b = pairs[0].a.gpu, pairs[0].b.gpu
    rows = []
    for pair in pairs:
        classes = pair.classes
        of_a, of_b = pair.of_napkin
        times = pair.common["time_s_b"] / pair.common["time_s_a"]
        for place in np.unique(classes):
            inside = classes == place
            shares = (of_a[inside].median(), of_b[inside].median())
            rows.append(
                [
                    pair.a.op, pair.a.dtype, _napkin_class(int(place)), f"{inside.sum():,}", *map(percent, shares),
                    f"{times[inside].median():.2f}",
                ]
            )  # fmt: skip
    headings = ("op", "dtype", f"napkin on {a}", "common shapes", f"{a}, % of roofline", f"{b}, % of roofline", "time")
    return Part(f"{a} against {b}", headings, rows)


def _napkin_class(place: int) -> str:
    if place == len(NAPKIN_ENDS_S):
        return f"over {duration(NAPKIN_ENDS_S[-1], 1)}"
    return f"up to {duration(NAPKIN_ENDS_S[place], 1)}"


def _teaches(pairs: Sequence[Pair]) -> list[str]:
    """What the two GPUs' shares of the roofline say of matmul and of attention."""
    sentences = []
    for pair in pairs:
        if pair.a.op == "matmul" and pair.a.dtype in DTYPES:
            sentences.append(_matmul_teaches(pair))
        elif pair.a.op == "attention_prefill":
            sentences.append(f"{_ends_text(pair)} {_shares_text(pair, 'math_share')}")
        elif pair.a.op == "attention_decode":
            sentences.append(f"{_ends_text(pair)} {_shares_text(pair, 'dram_share')}")
    return sentences


def _matmul_teaches(pair: Pair) -> str:
    """The ridge, the launch floor and the tensor units of both, beside what small and large products reach."""
    a, b = (Machine.of(GPUS[group.gpu], DTYPES[group.dtype]) for group in (pair.a, pair.b))
    floors = [duration(group.calibration.constants["launch_s"]) for group in (pair.a, pair.b)]
    shortest = pair.common[pair.classes == pair.classes.min()]
    time, napkin = ((shortest[f"{name}_b"] / shortest[f"{name}_a"]).median() for name in ("time_s", "napkin_s"))
    flop = 2 * pair.common["m"] * pair.common["n"] * pair.common["k"]
    bound = [
        percent(float((flop / machine.flop_per_s >= 0.999 * pair.common[f"napkin_s_{side}"]).mean()))
        for machine, side in ((a, "a"), (b, "b"))
    ]
    return (
        f"{_ends_text(pair)} The second GPU has {b.flop_per_s / a.flop_per_s:.1f}x the peak and"
        f" {b.bytes_per_s / a.bytes_per_s:.1f}x the bandwidth, but an empty call takes {floors[0]} on the first and"
        f" {floors[1]} on the second: the shortest products take {time:.2f}x the time where their bound is"
        f" {napkin:.2f}x."
        f" The ridge moves from {a.flop_per_s / a.bytes_per_s:.0f} to {b.flop_per_s / b.bytes_per_s:.0f} FLOP a byte:"
        f" {bound[0]} of these shapes are bound by arithmetic on the first, {bound[1]} on the second, and a batch must"
        f" grow by as much to reach the peak. {_shares_text(pair, 'math_share')}"
    )


def _shares_text(pair: Pair, name: str) -> str:
    ours, theirs = (percent(group.calibration.constants[name]) for group in (pair.a, pair.b))
    constant = TIME_MODELS[pair.a.op].constants[name]
    return f"Calibrated for {constant.meaning} (`{name}`): {ours} and {theirs} {constant.unit}."


def _ends_text(pair: Pair) -> str:
    """The shares that the shortest and the longest class reach."""
    classes = pair.classes
    of_a, of_b = pair.of_napkin
    texts = []
    for place in dict.fromkeys((int(classes.min()), int(classes.max()))):
        inside = classes == place
        texts.append(
            f"{percent(of_a[inside].median())} of the roofline on {pair.a.gpu} and {percent(of_b[inside].median())} on"
            f" {pair.b.gpu} where the napkin is {_napkin_class(place)}"
        )
    return f"**{pair.a.op} {pair.a.dtype}** reaches {', '.join(texts)}."


def _draw_comparison(imported: Imported, path: Path) -> list[str] | None:
    """Draw the GPUs side by side; returns what was left out, or None where there is nothing to compare."""
    try:
        comparison = compare_tables(imported)
        write_file(path, to_small_png(draw_table_comparison(comparison)))
    except (BadRecord, NothingToDraw):
        path.unlink(missing_ok=True)  # drawn from other tables
        return None
    return list(comparison.notes)


def _octave(exponent: int) -> str:
    return f"{2**exponent} to {2 ** (exponent + 1) - 1}" if exponent else "1"


def _shapes(count: float) -> str:
    return f"{count:,.0f} shape{'' if count == 1 else 's'}"

"""Expected time of latent attention (MLA): decode over cached latents, and prompts.

    t = max(host, start + projections + combine + (tiles^p + traffic^p)^(1/p))      decode
    t = max(host, start + copies + projections + tiles)                             prefill

Engines time the whole layer's call: where the host issues its many launches more slowly than the GPU works, the work
is hidden. Decode multiplies all heads with the latents themselves (absorbed). A prompt expands them to keys and values
of each head; kernels for several queries attend to the latents if the prompt is short.
"""

from types import MappingProxyType

import numpy as np

from predict.expected.time_model import (
    Constant,
    Constants,
    Dims,
    Machine,
    Scale,
    Switch,
    Switches,
    Terms,
    TimeModel,
    p_norm,
)
from predict.resources import matmul_unit
from predict.units import DType, Formats
from predict.workloads import Amounts, FloatArray, attention_mla

DECODE_OVERLAP = 4.0  # p of decode: the products of all heads hide well behind the cache
KEY_TILE = 64  # latents that a block multiplies at once
SMALL_KEY_TILE = 32  # of a small block
HEADS = 64  # heads of a block: the rows of one warpgroup
SMALL_HEADS = 16  # of a small block: the rows of one tensor core instruction
FIXED_PARTS = 4  # parts of the keys that small blocks always make
LONE_SHARE = 0.35  # rate of a small block's kernel for one head, which multiplies without tensor cores
COMBINED_BYTES = 2 * 4  # an element of a part's result in fp32: written, then read
PROMPT_TILE = 128  # rows of queries, and keys, of a prompt's block
LONGEST = 0.4  # share of the longest causal block by which the SMs end unevenly
SHORT, MIDDLE = 128, 512  # tokens of prompts that kernels for several queries take
LATENT_PASSES = 2  # a prompt's latents are read, and written to the cache
PROJECTION_SHARE = 0.8  # of the peak, for products with W_UK and W_UV
TIES = 0.1  # in most tables many rows are the host's time alone: probes as telling as this spread over them

_HOST = Constant("s", 1e-4, 1e-6, 1e-3, 1.5, "the host issues the call; work that is shorter is hidden")
_START = Constant("s", 1.5e-5, 1e-6, 2e-4, 1.0, "launches on the GPU, before and between the work")
_TILE = Constant("s", 2e-6, 5e-8, 2e-5, 1.0, "start and end of one block on an SM, per wave")

DECODE_CONSTANTS = MappingProxyType(
    {
        "host_s": _HOST,
        "start_s": _START,
        "math_share": Constant("of the peak", 0.7, 0.15, 1.0, 0.4, "matrix products inside a block"),
        "dram_share": Constant("of the bandwidth", 0.8, 0.3, 0.97, 0.3, "bytes that come from DRAM"),
        "stream_bytes_per_s": Constant("B/s", 5e10, 2e9, 3e11, 1.0, "latents into one SM", scale=Scale.SM_CLOCK),
        "absorbed": Constant("times", 0.8, 0.02, 10.0, 1.3, "bytes of the absorbed projections; near 0: not timed"),
        "tile_s": _TILE,
    }
)
PREFILL_CONSTANTS = MappingProxyType(
    {
        "host_s": _HOST,
        "start_s": Constant("s", 3e-5, 1e-6, 2e-4, 1.0, _START.meaning),
        "math_share": Constant("of the peak", 0.6, 0.1, 1.0, 0.45, "matrix products inside a block"),
        "tile_s": _TILE,
        "copies": Constant("times", 4.0, 1.0, 40.0, 1.0, "Q, O and latents through DRAM, keys and values included"),
        "absorbed_copies": Constant("times", 3.0, 0.5, 40.0, 1.0, "Q, O and latents of a prompt that attends to them"),
        "absorbed_tile_s": Constant("s", 1e-6, 5e-8, 2e-5, 1.2, "block of such a prompt, for a token and 64 heads"),
    }
)
DECODE_SWITCHES = MappingProxyType(
    {
        "small_blocks": Switch("16 heads a block and always 4 parts of the keys, else 64 heads", 0.8, 2.0),
        "wide_blocks": Switch("twice as many heads a block", 0.8, 2.0),
    }
)
PREFILL_SWITCHES = MappingProxyType(
    {
        "absorbs_short": Switch("prompts up to 128 tokens attend to the latents", 0.8, 2.0),
        "absorbs_middle": Switch("prompts of 129 to 512 tokens attend to the latents", 0.8, 2.0),
    }
)


def decode_terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, context (new token included), heads, latent, rope."""
    batch, heads, latent = dims["batch"], dims["heads"], dims["latent"]
    tiles_s, parts = _decode_tiles(dims, machine, formats, constants, on)
    dram = constants["dram_share"] * machine.bytes_per_s
    traffic_s = np.asarray(_decode_amounts(dims, formats.activation, formats).bytes / dram)
    combine_s = np.where(parts > 1, COMBINED_BYTES * batch * heads * parts * latent, 0) / dram
    # W_UK and W_UV once, and the queries and results on both sides of them. Heads are a quarter of the latent wide.
    weights, rows = heads * latent * latent / 2, batch * heads * (latent / 2 + 2 * latent + dims["rope"])
    projections_s = constants["absorbed"] * (weights + rows) * formats.activation.bytes / dram
    work_s = constants["start_s"] + projections_s + p_norm(tiles_s, traffic_s, DECODE_OVERLAP) + combine_s
    parts_s = {"projections": projections_s, "tiles": tiles_s, "traffic": traffic_s, "combine": combine_s}
    return _hidden(work_s, parts_s, constants)


def prefill_terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, seq, heads, latent, rope, head_dim (without rope)."""
    heads, latent = dims["heads"], dims["latent"]
    tokens, seq, head_dim = dims["batch"] * dims["seq"], dims["seq"], dims["head_dim"]
    may = (on["absorbs_short"] & (seq <= SHORT)) | (on["absorbs_middle"] & (seq > SHORT) & (seq <= MIDDLE))
    absorbs = may | (seq == 1)  # one token is decode
    element_s = formats.activation.bytes / machine.bytes_per_s
    cached = LATENT_PASSES * (latent + dims["rope"])
    expanded = constants["copies"] * (heads * (2 * head_dim + dims["rope"]) + cached)
    absorbed = constants["absorbed_copies"] * (heads * (2 * latent + dims["rope"]) + cached)
    copies_s = tokens * np.where(absorbs, absorbed, expanded) * element_s
    # The FLOP of expanding one token's latents are those of absorbing both projections for it.
    weights = 2 * heads * head_dim * latent
    projections_s = weights * element_s + 2 * tokens * weights / (PROJECTION_SHARE * machine.flop_per_s)
    flop_per_s = constants["math_share"] * machine.flop_per_s / machine.sm_count
    tiles_s = np.where(
        absorbs,
        _absorbed_tiles(dims, machine, flop_per_s, constants),
        _expanded_tiles(dims, machine, flop_per_s, constants),
    )
    parts_s = {"copies": copies_s, "projections": projections_s, "tiles": tiles_s}
    return _hidden(constants["start_s"] + copies_s + projections_s + tiles_s, parts_s, constants)


def _decode_tiles(
    dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches
) -> tuple[FloatArray, FloatArray]:
    """Time of the blocks on the SMs, and the number of parts of a block's keys."""
    context, heads, width = dims["context"], dims["heads"], dims["latent"] + dims["rope"]
    small = on["small_blocks"]
    rows = (SMALL_HEADS if small else HEADS) * (2 if on["wide_blocks"] else 1)
    key_tile = SMALL_KEY_TILE if small else KEY_TILE
    blocks = dims["batch"] * np.ceil(heads / rows)
    tiles = np.ceil(context / key_tile)
    if small:
        parts = np.minimum(FIXED_PARTS, context)
        per_part = np.ceil(np.ceil(context / parts) / key_tile)
    else:
        per_part = np.ceil(tiles / np.clip(np.floor(machine.sm_count / blocks), 1, tiles))
        parts = np.ceil(tiles / per_part)
    per_sm = blocks * parts / machine.sm_count
    lone = (heads == 1) & small
    waves = np.where(lone, per_sm + 1, np.ceil(per_sm))  # several blocks for one head share an SM: no waves
    stream = constants["stream_bytes_per_s"] * np.where(lone, LONE_SHARE, 1)
    stream_s = key_tile * width * (formats.kv_bits / 8) / stream
    flop_per_s = constants["math_share"] * machine.flop_per_s / machine.sm_count
    products_s = 2 * rows * key_tile * (width + dims["latent"]) / flop_per_s
    return waves * (per_part * p_norm(products_s, stream_s, 2.0) + constants["tile_s"]), parts


def _expanded_tiles(dims: Dims, machine: Machine, flop_per_s: float, constants: Constants) -> FloatArray:
    """Causal attention with keys and values of each head, without the first block's start."""
    seq, start_s = dims["seq"], constants["tile_s"]
    per_head = np.ceil(seq / PROMPT_TILE)
    rows = np.minimum(np.ceil(seq / per_head / HEADS) * HEADS, PROMPT_TILE)  # a short block has one warpgroup
    step_s = 2 * rows * PROMPT_TILE * (2 * dims["head_dim"] + dims["rope"]) / flop_per_s
    longest, mean = per_head, (per_head + 1) / 2  # in tiles of keys: block i has i + 1
    per_sm = np.maximum(dims["batch"] * dims["heads"] * per_head / machine.sm_count, 1)
    even_s = per_sm * (start_s + mean * step_s) + LONGEST * (longest - mean) * step_s
    return np.asarray(np.maximum(even_s, start_s + longest * step_s) - start_s)


def _absorbed_tiles(dims: Dims, machine: Machine, flop_per_s: float, constants: Constants) -> FloatArray:
    """Attention of a prompt to the latents: every head of a token is a row, and a token's rows fill blocks."""
    batch, seq, heads = dims["batch"], dims["seq"], dims["heads"]
    groups = batch * np.ceil(seq * heads / HEADS)
    keys = np.ceil((seq + 1) / 2 / KEY_TILE) * KEY_TILE
    products_s = groups * keys * 2 * HEADS * (2 * dims["latent"] + dims["rope"]) / flop_per_s
    blocks = batch * seq * np.ceil(heads / HEADS)
    return np.asarray((products_s + blocks * constants["absorbed_tile_s"]) / machine.sm_count)


def _hidden(work_s: FloatArray, parts_s: dict[str, FloatArray], constants: Constants) -> Terms:
    """The host's time, or the work where that takes longer; the GPU waits for the rest of the host's time."""
    waiting_s = np.maximum(constants["host_s"] - work_s, 0)
    start_s = np.full(work_s.size, constants["start_s"])
    return Terms(work_s + waiting_s, {"waiting": waiting_s, "start": start_s, **parts_s})


def decode_napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with Q and O in the compute format."""
    return machine.bound_s(_decode_amounts(dims, formats.compute, formats))


def prefill_napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound: the products of expanded heads, which take the fewest FLOP; Q and O in the compute format, and the
    latents, which hold all keys and values in the fewest bytes, in the cache's. Projections are no part of it, because
    not every engine times them."""
    batch, seq, heads, head_dim, rope = (dims[name] for name in ("batch", "seq", "heads", "head_dim", "rope"))
    pairs = batch * heads * seq * (seq + 1) / 2
    per_token = heads * (head_dim + rope) * formats.compute.bytes + (dims["latent"] + rope) * formats.kv_bits / 8
    return machine.bound_s(
        Amounts(
            flop_by_unit={matmul_unit(formats.compute): 2 * pairs * (2 * head_dim + rope)},
            bytes_read=batch * seq * per_token,
            bytes_written=batch * seq * heads * head_dim * formats.compute.bytes,
        )
    )


def _decode_amounts(dims: Dims, queries: DType, formats: Formats) -> Amounts:
    """Absorbed attention with Q and O in the format `queries`, and the latents in the cache's format."""
    sizes = {name: dims[name] for name in ("batch", "context", "heads", "latent", "rope")}
    amounts = attention_mla(**sizes, dtype=queries)
    latents = dims["batch"] * dims["context"] * (dims["latent"] + dims["rope"])
    in_cache = latents * (formats.kv_bits / 8 - queries.bytes)
    return Amounts(amounts.flop_by_unit, amounts.bytes_read + in_cache, amounts.bytes_written)


def _absorbing(machine: Machine) -> Switches:
    """Only Hopper has kernels for several queries of latents that engines prefer for short prompts."""
    return dict.fromkeys(PREFILL_SWITCHES, machine.sm == 90)


LATENT_DECODE = TimeModel(
    "attention_mla",
    ("batch", "context", "heads", "latent", "rope"),
    DECODE_CONSTANTS,
    DECODE_SWITCHES,
    lambda machine: dict.fromkeys(DECODE_SWITCHES, False),  # noqa: ARG005
    decode_terms,
    decode_napkin_s,
    ties=TIES,
)
LATENT_PREFILL = TimeModel(
    "attention_mla_prefill",
    ("batch", "seq", "heads", "latent", "rope", "head_dim"),
    PREFILL_CONSTANTS,
    PREFILL_SWITCHES,
    _absorbing,
    prefill_terms,
    prefill_napkin_s,
    ties=TIES,
)
LATENT_MODELS = (LATENT_DECODE, LATENT_PREFILL)

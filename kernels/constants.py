"""Constants that kernels share: architectures, formats, and the parameters of formulas."""

from collections.abc import Mapping
from types import MappingProxyType

# PTX targets of the supported GPUs: A100, A10 and RTX 30, L40 and RTX 40, H100 and H200, B200, RTX 50.
ARCHITECTURES = (80, 86, 89, 90, 100, 120)

# Formats of matmul_scaled, and why other ops refuse them.
EIGHT_BIT = ("fp8", "int8")
EIGHT_BIT_REASON = "8-bit operands need scales, which this op does not take"

# Formats of attention in Triton, and why it refuses others.
ATTENTION_DTYPES = ("fp32", "bf16", "fp16")
NOT_ATTENTION_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "fp64": "sums are in fp32",
        "tf32": "fp32 attention is computed in full precision",
        **dict.fromkeys(EIGHT_BIT, EIGHT_BIT_REASON),
    }
)

TRIAD_SCALE = 3.0  # stream_triad: y = a + TRIAD_SCALE*b
FILL_VALUE = 1.0  # stream_write: every element
RMSNORM_EPS = 1e-6
LAYERNORM_EPS = 1e-5  # GPT-2's
GELU_CUBIC = 0.044715  # gelu: x * (1 + tanh(sqrt(2/pi) * (x + GELU_CUBIC*x^3))) / 2
INT4_GROUP = 128  # weights along k with one scale
INT4_PER_WORD = 8  # weights in an int32
MLA_SCALE = 192**-0.5  # of scores: DeepSeek's heads have 128 + 64 numbers before projections are absorbed

# AdamW of block_train, as LLaMA was trained (Touvron et al. 2023, arXiv 2302.13971, section 2.3).
ADAMW_RATE = 3e-4
ADAMW_BETAS = (0.9, 0.95)
ADAMW_EPS = 1e-8
ADAMW_DECAY = 0.1
ADAMW_STEP = 3  # whose moments are corrected for bias; any but the first

"""What a layer computes between its matrices. It has no FLOP here, but it decides what the backward pass keeps."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Norm:
    """A kind of norm, and what autograd keeps of one that the published code runs op by op."""

    params: int  # per element: a weight, or a weight and a bias
    eager_bytes: int  # kept per element, with 16-bit activations and without the next matrix's input
    fused_bytes: int = 2  # kept per element by a norm that is one kernel: its input
    centered: bool = False  # LayerNorm, which subtracts the mean; False: RMSNorm


RMS = Norm(1, eager_bytes=6)  # Llama's: an fp32 copy of the input, and the 16-bit result before the weight
RMS_FP32 = Norm(1, eager_bytes=8)  # Gemma's and OLMo 2's: the result before the weight is fp32 too
LAYER = Norm(2, eager_bytes=2, centered=True)  # PyTorch's LayerNorm is one kernel
LAYER_WITHOUT_BIAS = Norm(1, eager_bytes=2, centered=True)
LAYER_FP32 = Norm(1, eager_bytes=12, centered=True)  # Cohere's, written in Python: input, difference and result in fp32


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norms, softmax and activation function of a layer, as the family's published code computes them."""

    norm: Norm = RMS
    softmax_bits: int = 32  # of eager attention's softmax: 32 is cast to 16 bits afterwards, and both are kept
    relu: bool = False  # the activation function's gradient needs only its result
    parallel: bool = False  # attention and MLP read the same input


RMS_ELEMENTWISE = Elementwise()

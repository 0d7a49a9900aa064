"""What all kernels share."""

# PTX targets of the supported GPUs: A100, A10 and RTX 30, L40 and RTX 40, H100 and H200, B200, RTX 50.
ARCHITECTURES = (80, 86, 89, 90, 100, 120)

TRIAD_SCALE = 3.0  # stream_triad: y = a + TRIAD_SCALE*b
FILL_VALUE = 1.0  # stream_write: every element

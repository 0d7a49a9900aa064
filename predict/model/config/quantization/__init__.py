"""How a configuration says that weights are quantized: one module for each kind of method."""

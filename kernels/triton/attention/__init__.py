"""Attention in Triton: prompts, caches, latents, gradients."""

"""The names of matrices against the modules that `transformers` builds, for every type that is read."""

import re

import pytest

from predict.model.config.module_names import HEAD, PREFIXES, paths_of
from predict.model.config.reader import from_config
from predict.model.mlp import Experts

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.predict.model.config import test_transformers, test_transformers_hybrid  # noqa: E402 - they need both

DENSE = {kind: {"model_type": kind, **base} for kind, (base, _) in test_transformers.FAMILIES.items()}
CONFIGS = {**DENSE, **test_transformers_hybrid.CONFIGS}
# Small matrices that decide where a token goes or mix a few streams: they have no name, so that they keep 16 bits.
KEPT = re.compile(r"mlp\.(router|shared_gate)|indexer\.(weights|compressor\..*)|compressor\..*|altup\..*|streams\..*")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_matrix_of_a_layer_has_a_name_that_transformers_gives(name):
    config = CONFIGS[name]
    names = [each for each, _ in test_transformers.built(config).named_parameters()]
    found = [re.match(r"((?:.*\.)?(?:layers|h|blocks)\.)\d+\.(.*)$", each) for each in names]
    assert {f"{match[1]}{{}}." for match in found if match} <= set(PREFIXES)
    modules = {match[2].rpartition(".")[0] for match in found if match} | {match[2] for match in found if match}
    model = from_config(config, "it")
    for block in model.blocks:
        for linear in block.linears:
            paths = paths_of(linear.name, model.architecture, beside_experts=isinstance(block.mlp, Experts))
            assert bool(set(paths) & modules) != bool(KEPT.fullmatch(linear.name)), linear.name
    assert model.tied or any(f"{head}.weight" in names for head in HEAD)

import inspect

import pytest

from predict.errors import BadQuantity
from predict.formulas import continuous, memory, money, parallel, serving, speculation
from predict.formulas.catalog import FORMULAS, evaluate, find_formula
from predict.formulas.memory import Recompute

# Public functions that take or give more than numbers, and so cannot be worked out from a command line.
NOT_FOR_THE_COMMAND_LINE = {
    "memory.find_weight_format",
    "memory.find_optimizer",
    "memory.training_state",
    "memory.sharded_state",
}


def test_every_public_formula_can_be_worked_out_by_name():
    for module in (continuous, memory, money, parallel, serving, speculation):
        short = module.__name__.rpartition(".")[2]
        public = {
            f"{short}.{name}"
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if not name.startswith("_") and function.__module__ == module.__name__
        }
        assert public - FORMULAS.keys() <= NOT_FOR_THE_COMMAND_LINE
        assert public & NOT_FOR_THE_COMMAND_LINE & FORMULAS.keys() == set()


def test_a_formula_is_found_with_and_without_its_module():
    assert (
        find_formula("speculation.speedup") == find_formula("speedup") == ("speculation.speedup", speculation.speedup)
    )


def test_numbers_lists_truth_values_and_policies_are_read():
    # (1 - 0.8^5) / (1 - 0.8) = 3.3616, over 4 x 0.15 + 1.
    assert evaluate("speedup", {"alpha": "0.8", "k": "4", "c": "0.15"}) == pytest.approx(2.101)
    assert evaluate("static_batch_utilization", {"lengths": "500,10"}) == 0.51
    # A tree: two guesses of the first head, and one of the second below its best: 1 + 0.6 + 0.2 + 0.6 * 0.5.
    tree = {"acceptance": "0.6,0.2;0.5", "tree": "0;1;0,0"}
    assert evaluate("tree_expected_tokens", tree) == pytest.approx(2.1)
    layer = {"batch": "1", "seq": "1024", "hidden": "768", "heads": "12"}
    assert evaluate("activation_bytes_per_layer", {**layer, "recompute": "flash"}) == 34 * 1024 * 768
    assert evaluate("activation_bytes_per_layer", {**layer, "dropout": "false"}) == 50_339_840
    assert evaluate("weight_bytes", {"params": "70553706496"}) == 141_107_412_992  # an int stays one


def test_arguments_are_read_by_the_unit_in_their_name():
    # 8 x 1024 prompt tokens, but 15e12 training tokens: 6PT.
    assert evaluate("tensor_parallel_message_bytes", {"tokens": "8k", "hidden": "4k"}) == 2 * 8192 * 4096
    assert evaluate("train_flop", {"params": "70B", "tokens": "15T"}) == 6 * 70 * 10**9 * 15 * 10**12
    assert evaluate("min_gpus", {"total_bytes": "160GB", "hbm_bytes": "80GB"}) == 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("speedupp", {}, "did you mean speculation.speedup?"),
        ("speedup", {"alpha": "0.8"}, "needs k=..., c=...; it takes alpha, k, c"),
        ("speedup", {"alpha": "0.8", "k": "4", "c": "1", "z": "1"}, "has no 'z'"),
        ("speedup", {"alpha": "much", "k": "4", "c": "1"}, "alpha must be a number such as"),
        ("speedup", {"alpha": "2", "k": "4", "c": "1"}, "alpha must be from 0 to 1, not 2"),
        ("speedup", {"alpha": "nan", "k": "4", "c": "1"}, "alpha must be a number such as"),
        ("static_batch_utilization", {"lengths": "500,,10"}, "lengths must be a number such as"),
        (
            "activation_bytes_per_layer",
            {"batch": "1", "seq": "1", "hidden": "8", "heads": "1", "recompute": "some"},
            f"recompute must be one of {', '.join(Recompute)}",
        ),
        (
            "activation_bytes_per_layer",
            {"batch": "1", "seq": "1", "hidden": "8", "heads": "1", "dropout": "1"},
            "dropout must be true or false",
        ),
    ],
)
def test_bad_arguments_are_named(name, arguments, message):
    with pytest.raises(BadQuantity, match=message):
        evaluate(name, arguments)

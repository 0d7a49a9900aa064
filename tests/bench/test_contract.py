"""A function that returns other tensors, changes its inputs or remembers its result is found out before it is timed."""

import functools

import pytest
import torch

from bench.contract import BrokenContract, WrongShape, call_watched, check_computes, check_unchanged, outputs_of

TWO_BY_THREE = (torch.zeros(2, 3),)


def nothing(inputs):
    return ()


def test_a_tensor_and_a_tuple_are_results():
    one, two = torch.ones(2, 3), torch.ones(4)
    assert outputs_of(one, TWO_BY_THREE) == (one,)
    assert outputs_of((one, two), (*TWO_BY_THREE, torch.zeros(4))) == (one, two)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.ones(3, 2), r"^returns a tensor \(3, 2\), where a tensor \(2, 3\) is right$"),
        ((torch.ones(2, 3),) * 2, r"^returns 2 tensors \(2, 3\), \(2, 3\), where a tensor \(2, 3\) is right$"),
        (None, "^returns NoneType, where a tensor"),
        ([torch.ones(2, 3)], "^returns list, where a tensor"),
        ((), "^returns 0 tensors"),
        (torch.ones(2, 3, device="meta"), "^returns a tensor on meta; its inputs are on cpu$"),
    ],
)
def test_any_other_result_is_named(result, message):
    with pytest.raises(WrongShape, match=message):
        outputs_of(result, TWO_BY_THREE)


def test_a_function_that_keeps_to_the_contract_is_left_in_peace():
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]).t().t()
    (found,) = call_watched(torch.mm, (x, weight), nothing, (torch.zeros(1, 1),))
    assert found.item() == 1 * 3 + 2 * 4
    assert x.tolist() == [[1.0, 2.0]]
    assert weight.tolist() == [[3.0], [4.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_a_changed_input_is_named_by_its_position(dtype):
    def sneaks(x, y):
        y[1] = 0
        return x.clone()

    x = torch.ones(3)
    with pytest.raises(BrokenContract, match="changes its input 1"):
        call_watched(sneaks, (x, torch.ones(4).to(dtype)), nothing, (x,))


def test_an_input_that_holds_nan_is_not_taken_for_changed():
    x = torch.tensor([float("nan"), 1.0])
    assert call_watched(torch.neg, (x,), nothing, (x,))[0][1] == -1


def test_what_an_op_writes_may_change_but_not_what_lies_beside_it():
    cache = torch.zeros(2, 4)

    def last_column(inputs):
        return (inputs[1][:, -1],)

    def appends(column, x, cache):
        cache[:, column] = x
        return cache[:, column] * 1

    x = torch.tensor([5.0, 7.0])
    assert call_watched(functools.partial(appends, 3), (x, cache), last_column, (x,))[0].tolist() == [5.0, 7.0]
    with pytest.raises(BrokenContract, match="changes its input 1"):
        call_watched(functools.partial(appends, 2), (x, cache), last_column, (x,))


def test_a_result_that_is_remembered_is_found_out():
    remembered = {}

    def remembers(x):
        if x.data_ptr() not in remembered:
            remembered[x.data_ptr()] = x * 2
        return remembered[x.data_ptr()]

    x = torch.ones(3)
    first = call_watched(remembers, (x,), nothing, (x,))
    with pytest.raises(BrokenContract, match="the same result for other inputs"):
        check_computes(remembers, (x,), nothing, first)


def test_a_result_buffer_that_is_used_again_is_no_fault():
    buffer = torch.empty(3)
    x = torch.ones(3)
    (found,) = call_watched(lambda x: torch.mul(x, 2, out=buffer), (x,), nothing, (x,))
    check_computes(lambda x: torch.mul(x, 2, out=buffer), (x,), nothing, (found,))
    assert found.tolist() == [2.0, 2.0, 2.0]
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_a_function_of_whole_numbers_alone_is_called_once():
    calls = []
    x = torch.ones(3, dtype=torch.int32)

    def counted(x):
        calls.append(1)
        return x.clone()

    check_computes(counted, (x,), nothing, call_watched(counted, (x,), nothing, (x,)))
    assert calls == [1]


def test_a_change_that_comes_later_is_found_too():
    before, after = (torch.ones(2), torch.ones(2)), (torch.ones(2), torch.tensor([1.0, 2.0]))
    check_unchanged(before, before, nothing)
    with pytest.raises(BrokenContract, match="changes its input 1"):
        check_unchanged(before, after, nothing)

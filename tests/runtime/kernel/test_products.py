"""Every instruction set computes `x W^T`: the oracle is the dequantized product in float64.

Each test runs for every way that this machine has; `portable` and one of the others are there on any.
"""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.runtime import four_bit, kernel
from hub.runtime.kernel import products, records, ways
from tests.runtime.kernel.weights import formula, quantized

pytestmark = pytest.mark.skipif(ways.native is None, reason="the kernel wasn't built: there was no C compiler")

WAYS = list(kernel.ways.available())
EPSILON = 2.0**-23
SHAPES = [(1, 64), (5, 7), (33, 70), (64, 32), (64, 96), (3, 6000), (192, 576), (130, 264), (67, 1032), (9, 8200)]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch) -> kernel.Way:
    found = ways.find(request.param)
    monkeypatch.setattr(ways._Chosen, "way", found)
    monkeypatch.setattr(ways._Chosen, "is_settled", True)
    return found


def product(x, codes, state, bias=None):
    """Return our product, which must be the kernel's own."""
    out = kernel.product(x, codes, state, bias)
    assert out is not None
    return out


def assert_close(ours, x, dense, bias=None):
    """Each sum is off by at most its number of roundings: |x| |W|^T times (in + 3) half units in the last place."""
    exact = x.double() @ dense.double().T
    bound = (x.double().abs() @ dense.double().abs().T) * (dense.shape[1] + 3) * EPSILON / 2
    if bias is not None:
        exact, bound = exact + bias.double(), bound + (exact + bias.double()).abs() * EPSILON
    assert ours.shape == exact.shape
    assert bool(((ours.double() - exact).abs() <= bound).all())
    if exact.numel() >= 64:  # of a few sums, each may have cancelled to nearly nothing
        assert bool((ours.double() - exact).norm() <= 2e-6 * exact.norm())


def test_more_than_one_way_is_tested_here():
    assert "portable" in WAYS


@pytest.mark.parametrize("double", [True, False], ids=["double", "plain"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_is_the_dequantized_one(shape, kind, double, way):
    codes, state = quantized(shape, kind=kind, double=double)
    dense, bias = formula(codes, state), torch.randn(shape[0])
    for rows in (1, 2, 3, 8, 11):
        x = torch.randn(rows, shape[1])
        assert_close(product(x, codes, state, bias), x, dense, bias)


@pytest.mark.parametrize("rows", range(1, 65))
def test_any_number_of_rows(rows, way):
    codes, state = quantized((37, 136))
    x = torch.randn(rows, 136)
    assert_close(product(x, codes, state), x, formula(codes, state))


@pytest.mark.parametrize("block", [32, 64, 128, 256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("shape", [(48, 576), (7, 4104), (5, 4096), (3, 12288)], ids=str)
def test_any_block_size(block, shape, way):
    codes, state = quantized(shape, block=block)
    for rows in (1, 5):
        x = torch.randn(rows, shape[1])
        assert_close(product(x, codes, state), x, formula(codes, state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_panels_are_the_dense_weight_to_the_last_bit(shape, kind, dtype, way, monkeypatch):
    """Rounded to bfloat16 once, where that is asked for."""
    codes, state = quantized(shape, kind=kind)
    record, expected = records.record_of(codes, state), formula(codes, state).to(dtype)
    monkeypatch.setattr(products, "PANEL_WEIGHTS", 8 * shape[1])  # panels end in the middle of blocks
    rows = [dense.clone() for _, _, dense in products._row_panels(record, way, dtype)]
    assert len(rows) == -(-shape[0] // 8)
    assert torch.equal(torch.cat(rows), expected)
    monkeypatch.setattr(products, "PANEL_WEIGHTS", 40 * shape[0])
    columns = [dense.clone() for _, _, dense in products._column_panels(record, way, dtype)]
    assert len(columns) == -(-shape[1] // 40)
    assert torch.equal(torch.cat(columns, dim=1), expected)


def test_scales_that_are_no_numbers_or_too_large_are_rounded_as_torch_rounds_them(way):
    codes, state = quantized((8, 64), double=False)
    state.absmax[:5] = torch.tensor([float("nan"), float("inf"), float("-inf"), 3.4e38, 1e-40])
    record, expected = records.record_of(codes, state), formula(codes, state).bfloat16()
    (dense,) = [panel.clone() for _, _, panel in products._row_panels(record, way, torch.bfloat16)]
    assert torch.equal(dense.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0))
    assert torch.equal(dense.isnan(), expected.isnan())


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 16, 17, 70])
def test_bfloat16_is_rounded_once(rows, quick, way, monkeypatch):
    """Few rows are summed in float32; many are BLAS's, with the weight in bfloat16 as bitsandbytes has it."""
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: quick)
    codes, state = quantized((48, 576))
    x, bias = torch.randn(rows, 576, dtype=torch.bfloat16), torch.randn(48, dtype=torch.bfloat16)
    ours = product(x, codes, state, bias)
    assert ours.dtype == torch.bfloat16
    exact = x.double() @ formula(codes, state).double().T + bias.double()
    assert (ours.double() - exact).norm() <= (2**-8 if quick else 2**-9) * exact.norm()


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 300)),
    rows=st.integers(0, 20),
    block=st.sampled_from([32, 64, 128, 256]),
    kind=st.sampled_from(["nf4", "fp4"]),
    double=st.booleans(),
    name=st.sampled_from(WAYS),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_at_all(shape, rows, block, kind, double, name):
    codes, state = quantized(shape, kind=kind, block=block, double=double)
    x = torch.randn(rows, shape[1])
    found = products._forward(x, None, records.record_of(codes, state), ways.find(name))
    assert_close(found, x, formula(codes, state))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_nan_and_infinity_come_through_as_in_the_dense_product(value, rows, way):
    codes, state = quantized((24, 200), double=False)
    codes.view(-1)[:4] = 0x77  # eight weights that are zero: zero times infinity is NaN
    dense = formula(codes, state)
    x = torch.randn(rows, 200)
    x[rows // 2, 3] = value
    x[-1, 100] = value
    ours, expected = product(x, codes, state), x.double() @ dense.double().T
    assert torch.equal(ours.isnan(), expected.isnan())
    assert torch.equal(ours.isposinf(), expected.isposinf())
    assert torch.equal(ours.isneginf(), expected.isneginf())
    assert expected.isnan().any()
    others = [row for row in range(rows) if bool(x[row].isfinite().all())]
    assert_close(ours[others], x[others], dense)


@pytest.mark.parametrize("shape", [(64, 96), (5, 7), (48, 576)], ids=str)
@pytest.mark.parametrize("rows", [1, 4, 40])
def test_gradients_are_those_of_the_dense_weight(shape, rows, way, monkeypatch):
    monkeypatch.setattr(products, "PANEL_WEIGHTS", 8 * shape[0])
    codes, state = quantized(shape)
    dense = formula(codes, state).double()
    x = torch.randn(2, rows, shape[1], requires_grad=True)
    bias = torch.randn(shape[0], requires_grad=True)
    above = torch.randn(2, rows, shape[0])
    product(x, codes, state, bias).backward(above)
    wide_x, wide_bias = x.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
    torch.nn.functional.linear(wide_x, dense, wide_bias).backward(above.double())
    assert (x.grad - wide_x.grad).norm() <= 1e-6 * wide_x.grad.norm()
    assert (bias.grad - wide_bias.grad).norm() <= 1e-6 * wide_bias.grad.norm()


@pytest.mark.parametrize("quick", [True, False])
def test_a_gradient_in_bfloat16_is_rounded_once(quick, way, monkeypatch):
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: quick)
    codes, state = quantized((64, 576))
    x = torch.randn(40, 576, dtype=torch.bfloat16, requires_grad=True)
    above = torch.randn(40, 64, dtype=torch.bfloat16)
    product(x, codes, state).backward(above)
    exact = above.double() @ formula(codes, state).double()
    assert (x.grad.double() - exact).norm() <= 2**-7 * exact.norm()


def test_a_weight_without_a_gradient_costs_none(way):
    codes, state = quantized((16, 64))
    assert not product(torch.randn(2, 64), codes, state).requires_grad
    with torch.no_grad():
        assert not product(torch.randn(2, 64, requires_grad=True), codes, state).requires_grad


def test_a_row_says_the_same_whatever_rows_are_beside_it(way):
    """Of those that are computed together; a single row has a kernel of its own, and many rows are BLAS's."""
    codes, state = quantized((40, 1032))
    x = torch.randn(min(16, way.few_rows), 1032)
    together = product(x, codes, state)
    for count in range(2, len(x) - 1, 3):
        assert torch.equal(product(x[:count], codes, state), together[:count])


def test_threads_change_nothing(way):
    codes, state = quantized((700, 520))
    x = torch.randn(3, 520)
    torch.set_num_threads(1)
    alone = product(x, codes, state)
    torch.set_num_threads(2)
    assert all(torch.equal(product(x, codes, state), alone) for _ in range(20))


def test_callers_in_many_threads_get_their_own_results(way):
    torch.set_num_threads(2)
    weights = [quantized(shape) for shape in ((300, 512), (64, 1024), (512, 64), (5, 7))]
    inputs = [torch.randn(rows, state.shape[1]) for (_, state), rows in zip(weights, (1, 40, 3, 2), strict=True)]
    expected = [product(x, *weight) for x, weight in zip(inputs, weights, strict=True)]
    begin = threading.Barrier(4)

    def run(_: int) -> int:
        begin.wait(timeout=60)
        return sum(
            torch.equal(kernel.product(x, *weight, None), wanted)
            for _ in range(20)
            for x, weight, wanted in zip(inputs, weights, expected, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [80] * 4


def test_inputs_that_are_views_are_read_as_they_look(way):
    codes, state = quantized((24, 64))
    x = torch.randn(64, 6).T
    assert_close(product(x, codes, state), x, formula(codes, state))
    assert product(torch.randn(2, 3, 64)[:, 1:], codes, state).shape == (2, 2, 24)
    assert product(torch.randn(64), codes, state).shape == (24,)
    assert product(torch.randn(0, 64), codes, state).shape == (0, 24)


def test_a_record_lives_only_as_long_as_the_weight_is_where_it_was():
    codes, state = quantized((24, 64))
    first = kernel.record_of(codes, state)
    assert kernel.record_of(codes, state) is first
    moved = codes.clone()
    assert kernel.record_of(moved, state) is not first
    again = kernel.record_of(moved, state)
    state.absmax = state.absmax.clone()
    assert kernel.record_of(moved, state) is not again


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copied_weight_has_a_record_of_its_own(copied):
    codes, state = quantized((24, 64))
    x = torch.randn(2, 64)
    expected = kernel.product(x, codes, state, None)
    other = copied(state)
    codes2 = codes.clone()
    state.absmax.zero_()  # what the copy must not read
    if copied is not copy.copy:
        assert torch.equal(kernel.product(x, codes2, other, None), expected)
        assert kernel.record_of(codes2, other) is not kernel.record_of(codes, state)


def changed(**fields):
    codes, state = quantized((24, 64))
    for name, value in fields.items():
        setattr(state, name, value)
    return codes, state


@pytest.mark.parametrize(
    "fields",
    [
        {"packing_format_for_cpu": True},
        {"shape": torch.Size([4, 6, 64])},
        {"shape": torch.Size([48, 64])},
        {"blocksize": 96},
        {"code": torch.zeros(256)},
    ],
    ids=["packed", "not a matrix", "too few codes", "odd block", "other code"],
)
def test_what_the_kernel_cannot_read_goes_the_general_way(fields):
    codes, state = changed(**fields)
    assert kernel.product(torch.randn(2, 64), codes, state, None) is None


def test_other_types_and_widths_go_the_general_way():
    codes, state = quantized((24, 64))
    assert kernel.product(torch.randn(2, 64, dtype=torch.float16), codes, state, None) is None
    assert kernel.product(torch.randn(2, 32), codes, state, None) is None


def test_no_dense_weight_stays_behind():
    """Beside one panel, which all weights share."""
    import gc

    codes, state = quantized((1024, 2048))
    for rows in (1, 8, 200):
        kernel.product(torch.randn(rows, 2048), codes, state, None)
    gc.collect()
    kept = {
        t.data_ptr(): t.numel() for t in gc.get_objects() if isinstance(t, torch.Tensor) and t.dtype == torch.float32
    }
    assert max(kept.values()) <= products.PANEL_WEIGHTS


def test_the_seam_uses_the_kernel(way):
    codes, state = quantized((24, 64))
    x = torch.randn(2, 64)
    assert torch.equal(four_bit.product(x, codes, state, None, None), product(x, codes, state))
    narrow = four_bit.product(x.bfloat16(), codes, state, None, torch.float32)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, product(x.bfloat16().float(), codes, state).bfloat16())


def test_a_way_that_is_not_there_is_refused_by_the_compiled_code():
    codes, state = quantized((24, 64))
    nowhere = replace(next(iter(kernel.ways.available().values())), place=99)
    with pytest.raises(ValueError, match="no such way"):
        products._forward(torch.randn(2, 64), None, kernel.record_of(codes, state), nowhere)

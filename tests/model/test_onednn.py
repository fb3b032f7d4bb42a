"""Linear layers through oneDNN are the same layers."""

import pytest
import torch
from torch.nn.functional import linear

from causvid.model import onednn
from causvid.model.onednn import onednn_linear

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def taken_to_pay(monkeypatch):
    monkeypatch.setattr(onednn, "_has_avx512", lambda: torch.backends.mkldnn.is_available())


@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 40, 64), (2, 0, 64)])
@pytest.mark.parametrize("with_bias", [True, False])
@torch.inference_mode()
def test_results_are_equal_to_rounding(shape, with_bias):
    x, weight = torch.randn(shape), torch.randn(96, 64)
    bias = torch.randn(96) if with_bias else None
    expected = linear(x, weight, bias)
    with onednn_linear(CPU):
        torch.testing.assert_close(linear(x, weight, bias), expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_inputs_need_not_be_contiguous():
    x, weight = torch.randn(3, 64, 50).transpose(1, 2), torch.randn(64, 96).t()
    with onednn_linear(CPU):
        actual = linear(x, weight)
    torch.testing.assert_close(actual, linear(x, weight), atol=1e-5, rtol=1e-5)


def test_gradients_take_torch_own_way():
    layer, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    with onednn_linear(CPU):
        layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(4, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.inference_mode()
def test_other_types_take_torch_own_way(dtype):
    x, weight = torch.randn(3, 8, dtype=dtype), torch.randn(4, 8, dtype=dtype)
    with onednn_linear(CPU):
        actual = linear(x, weight)
    assert torch.equal(actual, linear(x, weight))


def test_other_devices_are_left_alone():
    x, weight = torch.empty(3, 8, device="meta"), torch.empty(4, 8, device="meta")
    with torch.inference_mode(), onednn_linear(x.device):
        assert linear(x, weight).shape == (3, 4)

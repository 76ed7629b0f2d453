"""The layers for cuDNN compute what the plain ones do; a CPU operator replaces cuDNN's."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from inception_cli.config import Plan
from inception_cli.network import cudnn
from inception_cli.network.fusion import fold_batch_norm, optimize, pool_after_conv
from inception_cli.network.model import InceptionV3


@pytest.fixture
def network() -> InceptionV3:
    network = InceptionV3(10).initialise(1).eval()
    generator = torch.Generator().manual_seed(2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
    return network


@pytest.fixture
def _operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: object) -> Tensor:
        stride, padding, dilation, groups = geometry
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)


@pytest.mark.usefixtures("_operator")
@torch.inference_mode()
def test_fused_layers_give_equal_logits(network: InceptionV3) -> None:
    folded = pool_after_conv(fold_batch_norm(network))
    fused = cudnn.fuse(folded)
    x = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))

    assert sum(isinstance(layer, cudnn.FusedConv) for layer in fused.modules()) == 85  # 94 less nine pool branches
    assert not any(isinstance(layer, cudnn.FusedConv) for layer in folded.modules())
    expected = network(x)
    assert (fused(x) - expected).norm() < 1e-5 * expected.norm()
    assert expected.std() > 0.01


def test_without_the_operator_the_plain_network_is_used(network: InceptionV3, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn.available.cache_clear()

    assert not cudnn.available("cpu", torch.float32)

    fused = optimize(network, (0.5,) * 3, (0.5,) * 3, Plan())
    assert not any(isinstance(layer, cudnn.FusedConv) for layer in fused.modules())


@pytest.mark.usefixtures("_operator")
def test_the_shape_for_torch_compile_is_that_of_the_result() -> None:
    layer = cudnn.FusedConv(nn.Conv2d(3, 8, (1, 7), stride=2, padding=(0, 3)))
    x = torch.randn(2, 3, 9, 11).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        actual = layer(x)
    with FakeTensorMode() as mode:
        tensors = [mode.from_tensor(tensor) for tensor in (x, layer.weight, layer.bias)]
        fake = cudnn._conv_relu(*tensors, [2, 2], [0, 3])

    assert fake.shape == actual.shape
    assert fake.stride() == actual.stride()

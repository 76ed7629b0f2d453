"""The network: equal to torchvision's, its smallest input, training, fresh weights."""

import pytest
import torch
import torchvision
from lively import lively, lively_state_dict, pictures, scaled
from torch import Tensor, nn

from inception_cli.config import MIN_SIDE
from inception_cli.network.model import ConvBN, InceptionV3, copy_modules, network_without_values


def distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def torchvision_network(aux: bool) -> nn.Module:
    network: nn.Module = torchvision.models.inception_v3(
        weights=None, aux_logits=aux, init_weights=False, transform_input=False
    )
    return network


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Three drawn pictures and one of noise, (4, 3, 171, 171)."""
    noise = torch.randint(0, 256, (1, 3, 171, 171), generator=torch.Generator().manual_seed(0))
    return scaled(torch.cat([pictures(3, seed=3, side=171), noise]))


@pytest.mark.parametrize("aux", [False, True])
def test_logits_equal_those_of_torchvision(aux: bool, pixels: Tensor) -> None:
    theirs = torchvision_network(aux).eval()
    theirs.load_state_dict(lively_state_dict(aux=aux))

    with torch.inference_mode():
        expected, actual = theirs(pixels), lively(aux=aux)(pixels)

    assert distance(actual, expected) <= 1e-6
    assert len(set(expected.argmax(1).tolist())) >= len(pixels) / 3


def test_training_logits_equal_those_of_torchvision() -> None:
    pixels = scaled(pictures(2, seed=3))  # torchvision's auxiliary classifier needs 299 pixels
    ours, theirs = lively(aux=True).train(), torchvision_network(aux=True).train()
    theirs.load_state_dict(ours.state_dict())

    with torch.no_grad():
        torch.manual_seed(0)  # the same dropout in both
        expected, expected_aux = theirs(pixels)
        torch.manual_seed(0)
        actual, actual_aux = ours.forward_train(pixels)

    assert distance(actual, expected) <= 1e-6
    assert distance(actual_aux, expected_aux) <= 1e-6
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


@pytest.mark.parametrize(("aux", "tensors"), [(False, 566), (True, 580)])
def test_tensor_names_and_shapes_equal_those_of_torchvision(aux: bool, tensors: int) -> None:
    with torch.device("meta"):
        expected, actual = (network.state_dict() for network in (torchvision_network(aux), InceptionV3(aux=aux)))

    assert {name: tensor.shape for name, tensor in expected.items()} == {
        name: tensor.shape for name, tensor in actual.items()
    }
    assert len(actual) == tensors


def test_smallest_input_is_75_pixels() -> None:
    network = lively(num_classes=10)

    with torch.inference_mode():
        assert network(torch.zeros(1, 3, MIN_SIDE, MIN_SIDE)).shape == (1, 10)
    with pytest.raises(ValueError, match="needs at least 75 pixels on each side, not 74x299"):
        network(torch.zeros(1, 3, 74, 299))


@pytest.mark.parametrize("side", [75, 128])
def test_training_works_on_small_images(side: int) -> None:
    network = InceptionV3(num_classes=10, aux=True).initialise(0)

    logits, aux_logits = network.forward_train(scaled(pictures(2, side=side)))
    (logits.sum() + aux_logits.sum()).backward()  # type: ignore[no-untyped-call]

    assert [logits.shape, aux_logits.shape] == [(2, 10), (2, 10)]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_training_without_auxiliary_classifier_raises() -> None:
    with pytest.raises(ValueError, match="aux=True"):
        InceptionV3(num_classes=2).forward_train(torch.zeros(1, 3, 75, 75))


def test_initial_weights_depend_on_the_seed_only_and_have_he_standard_deviation() -> None:
    first, again, other = (InceptionV3(num_classes=10).initialise(seed) for seed in (1, 1, 2))
    conv = first.Mixed_5b.branch5x5_2.conv  # fan out: 64 channels times 5x5

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.fc.weight, other.fc.weight)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 25)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("num_classes", [pytest.param(10, marks=pytest.mark.slow), 1000])
def test_lively_network_predicts_other_classes_for_other_pictures_and_other_presets(num_classes: int) -> None:
    network, pixels = lively(num_classes), pictures(6, seed=5, side=171)

    with torch.inference_mode():
        expected = network(scaled(pixels)).argmax(1)
        wrong_preset = network(scaled(pixels, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))).argmax(1)

    assert len(set(expected.tolist())) >= len(pixels) / 3
    assert (expected != wrong_preset).sum() >= len(pixels) / 3


def test_network_without_values_has_the_shapes_of_a_new_network_and_is_its_own_copy() -> None:
    for aux in (False, True):
        with torch.device("meta"):
            new = InceptionV3(3, aux).eval()
        first, second = (network_without_values(3, aux) for _ in range(2))
        first.register_module("fc", nn.Identity())

        assert str(second).replace("  (AuxLogits): None\n", "") == str(new)
        assert [*second.state_dict()] == [*new.state_dict()]
        assert all(parameter.requires_grad and parameter.is_meta for parameter in second.parameters())


def test_copied_modules_share_values_but_are_changed_alone() -> None:
    layer = ConvBN(1, 2, 3)
    copied = copy_modules(layer)
    with torch.no_grad():
        layer.conv.weight.fill_(7)
    assert copied.conv.weight.eq(7).all()

    copied.conv.register_forward_hook(lambda *_: None)
    copied.eval().double()
    del copied.relu

    assert {name for name, _ in layer.named_children()} == {"conv", "bn", "relu"}
    assert layer.conv.training
    assert not layer.conv._forward_hooks
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in layer.state_dict().values())

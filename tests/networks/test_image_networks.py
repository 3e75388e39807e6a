"""Generators and discriminators of the image-to-image methods: shapes, receptive fields, published sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from psp.models.psp import parameter_count
from psp.networks.patch_discriminators import ImageDiscriminator, PatchDiscriminator
from psp.networks.resnet_generator import ResidualGenerator, residual_config
from psp.networks.unet import UNet, unet_config


def meta(make: type[nn.Module], *args: object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return make(*args, **options)


@pytest.mark.parametrize(
    ("network", "millions"),
    [
        (lambda: meta(UNet, 3), 54.414),
        (lambda: meta(UNet, 3, size=128), 41.829),
        (lambda: meta(ResidualGenerator, 3), 11.378),
        (lambda: meta(ResidualGenerator, 3, blocks=6), 7.838),
        (lambda: meta(PatchDiscriminator, 6), 2.769),
    ],
    ids=["unet_256", "unet_128", "resnet_9blocks", "resnet_6blocks", "patch_70"],
)
def test_published_parameter_counts(network: object, millions: float) -> None:
    """What the public CycleGAN-and-pix2pix repository prints for three channels in and out."""
    assert round(parameter_count(network()) / 1e6, 3) == millions


@pytest.mark.parametrize(("size", "halvings"), [(256, 8), (128, 7), (32, 5)])
def test_unet_shapes_layer_by_layer(size: int, halvings: int) -> None:
    network = UNet(2, 3, size=size, width=4)
    assert len(network.down) == len(network.up) == halvings
    sides: list[int] = []
    for layer in (*network.down, *network.up):
        layer.register_forward_hook(lambda module, given, made: sides.append(made.shape[-1]))
    x = torch.rand(2, 2, size, size)
    made = network(x)
    assert made.shape == (2, 3, size, size) and made.abs().max() < 1
    assert sides == [size >> k for k in range(1, halvings + 1)] + [2**k for k in range(1, halvings + 1)]


def test_unet_layers_are_those_of_the_paper() -> None:
    network = meta(UNet, 3)
    down = [layer.conv.out_channels for layer in network.down]
    up = [layer.conv.out_channels for layer in network.up]
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert up == [512, 512, 512, 512, 256, 128, 64, 3]
    assert [hasattr(layer, "dropout") for layer in network.up] == [True] * 3 + [False] * 5
    assert [hasattr(layer, "norm") for layer in network.down] == [False] + [True] * 6 + [False]
    assert [hasattr(layer, "norm") for layer in network.up] == [True] * 7 + [False]


def test_every_skip_connection_counts() -> None:
    """Silencing what one halving hands across changes the output."""
    network = UNet(1, size=32, width=4, dropout=()).eval()
    x = torch.rand(1, 1, 32, 32)
    whole = network(x)
    for k in range(4):
        layer = network.down[k]
        seen: list[Tensor] = []
        hook = layer.register_forward_hook(lambda module, given, made, seen=seen: seen.append(made))
        network(x)
        hook.remove()
        # the doubling that joins it gets its own half and this one
        joined: list[Tensor] = []
        hook = network.up[4 - k].register_forward_pre_hook(lambda module, given, joined=joined: joined.append(given[0]))
        network(x)
        hook.remove()
        assert torch.equal(joined[0][:, : seen[0].shape[1]], seen[0])
        hook = layer.register_forward_hook(lambda module, given, made: made * 0)
        assert not torch.allclose(network(x), whole)
        hook.remove()


def test_unet_dropout_only_in_training() -> None:
    network = UNet(1, size=32, width=4)
    x = torch.rand(2, 1, 32, 32)
    network.eval()
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("side", [256, 128])
def test_patches_of_70_pixels(side: int) -> None:
    """Exactly: the gradient of a score in the middle reaches a square of 70, at its rim too."""
    network = PatchDiscriminator(1, width=8).double().eval()
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    scores = network(x)
    assert scores.shape == (1, 1, side // 8 - 2, side // 8 - 2)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert x.grad is not None
    rows, columns = (x.grad[0, 0].abs() > 0).nonzero().T
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == (70, 70)


def test_residual_generator_layer_by_layer() -> None:
    network = ResidualGenerator(1, 3, width=8, blocks=2)
    shapes: list[tuple[int, int]] = []
    for layer in (network.head, *network.down, *network.blocks, *network.up, network.tail):
        layer.register_forward_hook(lambda module, given, made: shapes.append((made.shape[1], made.shape[2])))
    assert network(torch.rand(1, 1, 32, 32)).shape == (1, 3, 32, 32)
    assert shapes == [(8, 32), (16, 16), (32, 8), (32, 8), (32, 8), (16, 16), (8, 32), (3, 32)]
    assert all(
        module.padding_mode == "reflect"
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.stride == (1, 1)
    )


def test_instance_norm_has_no_parameters_and_batch_norm_no_bias_before_it() -> None:
    instance, batch = ResidualGenerator(3, width=8, blocks=1), ResidualGenerator(3, width=8, blocks=1, norm="batch")
    assert not any(".norm." in key for key in instance.state_dict())
    biases = [key for key in batch.state_dict() if key.endswith("conv.bias")]
    assert biases == [] and "tail.bias" in batch.state_dict() and "head.conv.bias" in instance.state_dict()


def test_the_conditional_gans_networks() -> None:
    """7x7x32, two of stride 2 to 128, six residual blocks, two transposed ones, three channels; one verdict."""
    generator = meta(ResidualGenerator, 1, width=32, blocks=6, norm="batch")
    head, (first, second) = generator.head.conv, (layer.conv for layer in generator.down)
    assert (head.kernel_size, head.out_channels) == ((7, 7), 32)
    assert [(c.stride, c.out_channels) for c in (first, second)] == [((2, 2), 64), ((2, 2), 128)]
    assert len(generator.blocks) == 6 and generator.tail.out_channels == 3
    ups = [layer.conv for layer in generator.up]
    assert [type(c) for c in ups] == [nn.ConvTranspose2d] * 2 and [c.out_channels for c in ups] == [64, 32]
    critic = ImageDiscriminator(4, size=128, width=4)
    assert critic(torch.rand(3, 4, 128, 128)).shape == (3, 1)
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.stride == (2, 2) for c in convolutions) and isinstance(critic.score, nn.Linear)
    assert [hasattr(layer, "norm") for layer in critic.layers] == [False, True, True, True]


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("size", [32, 64])
def test_structure_is_read_from_the_tensors(norm: str, size: int) -> None:
    first = UNet(2, 1, size=size, width=6, norm=norm)
    assert unet_config(first.state_dict()) == {
        "in_channels": 2, "out_channels": 1, "size": size, "width": 6, "norm": norm
    }  # fmt: skip
    second = ResidualGenerator(2, 1, width=6, blocks=size // 16, norm=norm)
    assert residual_config(second.state_dict()) == {
        "in_channels": 2, "out_channels": 1, "width": 6, "blocks": size // 16, "norm": norm
    }  # fmt: skip


def test_weights_start_small() -> None:
    network = ResidualGenerator(3, width=16, blocks=2, norm="batch")
    weight = network.blocks[0].first.conv.weight
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(network.blocks[0].first.norm.weight.detach().mean()) == pytest.approx(1, abs=0.02)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="power of two"):
        UNet(3, size=96)

"""The network: ImageNet's weights arrive unharmed, and each map speaks for its region."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from training.network import (
    LABELS,
    REGIONS,
    TINY,
    Network,
    Shape,
    Trunk,
    cell_boxes,
    load_imagenet,
    soft_maximum,
)

MEANS = torch.tensor([103.939, 116.779, 123.68])[None, :, None, None]


def imagenet_weights(shape: Shape) -> dict[str, Tensor]:
    """Random weights under the names of a ResNet50 with BatchNorm, of any shape."""
    generator = torch.Generator().manual_seed(3)
    state: dict[str, Tensor] = {}

    def layer(conv: str, norm: str, out: int, channels: int, edge: int) -> None:
        scale = (channels * edge * edge) ** -0.5
        state[f"{conv}.weight"] = torch.randn(out, channels, edge, edge, generator=generator)
        state[f"{conv}.weight"] *= scale
        for name, low in (("weight", 0.5), ("bias", -0.2), ("running_mean", -0.1)):
            state[f"{norm}.{name}"] = low + torch.rand(out, generator=generator)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(out, generator=generator)

    layer("conv1", "bn1", shape.width, 3, 7)
    channels = shape.width
    for stage, count in enumerate(shape.blocks):
        middle = shape.width * 2**stage
        for block in range(count):
            stem = f"layer{stage + 1}.{block}"
            layer(f"{stem}.conv1", f"{stem}.bn1", middle, channels, 1)
            layer(f"{stem}.conv2", f"{stem}.bn2", middle, middle, 3)
            layer(f"{stem}.conv3", f"{stem}.bn3", middle * 4, middle, 1)
            if block == 0:
                layer(f"{stem}.downsample.0", f"{stem}.downsample.1", middle * 4, channels, 1)
            channels = middle * 4
    return state


def reference(state: dict[str, Tensor], grey: Tensor, shape: Shape) -> list[Tensor]:
    """layer3 and layer4 as a ResNet50 v1 with BatchNorm on BGR from 0 to 255 gives them."""

    def step(x: Tensor, conv: str, norm: str, stride: int = 1, pad: int = 0) -> Tensor:
        x = functional.conv2d(x, state[f"{conv}.weight"], None, stride, pad)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        scale, shift = state[f"{norm}.weight"], state[f"{norm}.bias"]
        return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=1e-3)

    # Black, not mid-grey, lies beyond the edge: what the folded network assumes as well.
    x = 255 * functional.pad(grey, (3, 3, 3, 3)).expand(-1, 3, -1, -1) - MEANS
    x = functional.max_pool2d(functional.relu(step(x, "conv1", "bn1", 2)), 3, 2, 1)
    maps = []
    for stage, count in enumerate(shape.blocks):
        for block in range(count):
            stem = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            y = functional.relu(step(x, f"{stem}.conv1", f"{stem}.bn1", stride))
            y = functional.relu(step(y, f"{stem}.conv2", f"{stem}.bn2", 1, 1))
            y = step(y, f"{stem}.conv3", f"{stem}.bn3")
            if block == 0:
                x = step(x, f"{stem}.downsample.0", f"{stem}.downsample.1", stride)
            x = functional.relu(x + y)
        maps.append(x)
    return maps[2:]


def test_folded_weights_compute_what_the_original_network_did(tmp_path):
    """BatchNorm, BGR means and the range are folded in, nothing is lost."""
    shape = Shape(width=4, blocks=(1, 2, 1, 1), neck=8)
    state = imagenet_weights(shape)
    save_file(state, tmp_path / "weights.safetensors")
    trunk = Trunk(shape)
    load_imagenet(trunk, tmp_path / "weights.safetensors")
    grey = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        found = trunk(grey)

    for ours, theirs in zip(found, reference(state, grey, shape), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_weights_that_lack_a_layer_are_refused_by_name(tmp_path):
    """A truncated download is named, not half loaded."""
    state = imagenet_weights(TINY)
    del state["layer3.0.bn2.running_var"]
    save_file(state, tmp_path / "weights.safetensors")

    with pytest.raises(KeyError, match=r"layer3\.0\.bn2\.running_var"):
        load_imagenet(Trunk(TINY), tmp_path / "weights.safetensors")


def test_the_whole_network_has_the_shapes_that_the_cards_promise():
    """Maps at stride 16 and 32, one column per region."""
    with torch.no_grad():
        outputs = Network(TINY)(torch.rand(3, 1, 96, 96))

    assert outputs.region_maps.shape == (3, len(LABELS), 3, 3)
    assert outputs.region_logits.shape == (3, len(LABELS))
    assert outputs.limb_logit.shape == (3, 1)
    assert outputs.fracture_maps.shape == (3, len(REGIONS), 6, 6)
    assert outputs.fracture_logits.shape == (3, len(REGIONS))
    assert outputs.distances.shape == (3, 4, 6, 6)
    assert bool((outputs.distances > 0).all())


def test_a_constant_added_to_a_map_adds_to_its_logit():
    """So what speaks for the whole view can be painted on the heat map."""
    maps = torch.randn(2, 3, 5, 5)

    pooled = soft_maximum(maps, 1.5)

    torch.testing.assert_close(soft_maximum(maps + 2.5, 1.5), pooled + 2.5)
    assert bool((pooled <= maps.amax((2, 3)) + 1e-6).all())
    assert bool((pooled >= maps.mean((2, 3)) - 1e-6).all())


def test_a_fracture_counts_less_where_its_region_is_not():
    """An ankle's fracture does not speak for the knee in the same view."""
    network = Network(TINY)
    neck = torch.zeros(1, TINY.neck, 4, 4)
    here, away = torch.full((1, len(REGIONS), 2, 2), 9.0), torch.full((1, len(REGIONS), 2, 2), -9.0)

    with torch.no_grad():
        inside = network.fracture.maps(neck, here)
        outside = network.fracture.maps(neck, away)

    assert float((inside - outside).min()) > 2.5


def test_the_limb_head_refuses_what_is_far_from_every_limb():
    """The distance speaks against a picture even if the learned score is fooled."""
    head = Network(TINY).limb
    with torch.no_grad():
        head.out.bias.fill_(50.0)
        # Limbs differ in the first channel of layer3 alone.
        head.axes[0, 0] = 1.0
        head.slope.fill_(10.0)
        head.radius.fill_(0.5)
        known, unknown = torch.zeros(2, 1, TINY.layer3, 2, 2).unbind(0)
        known[:, 0], unknown[:, 1] = 3.0, 3.0
        near = head(known, torch.zeros(1, TINY.layer4, 1, 1))
        far = head(unknown, torch.zeros(1, TINY.layer4, 1, 1))

    assert float(near) > 0 > float(far)


def test_cells_become_boxes_about_their_middles():
    """Edge distances are in strides, from the middle of the cell."""
    distances = torch.zeros(1, 4, 2, 3)
    distances[0, :, 1, 2] = torch.tensor([1.0, 0.5, 2.0, 1.5])

    boxes = cell_boxes(distances)

    assert boxes[0, 5].tolist() == [40 - 16, 24 - 8, 40 + 32, 24 + 24]

"""The networks: a ResNet50 trunk without BatchNorm layers, and the heads that read it.

Written here because no torchvision is needed for it. What is trained on what is not
decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

REGIONS: Final = (
    "hand_wrist",
    "forearm",
    "elbow",
    "humerus",
    "shoulder",
    "hip",
    "thigh",
    "knee",
    "leg",
    "ankle",
    "foot",
)
"""Regions in the order of the router's labels and of the fracture heads."""

LABELS: Final = (*REGIONS, "trunk")
"""What the region maps are trained to find; the router exports the regions alone."""

_IMAGENET_BGR_MEANS: Final = (103.939, 116.779, 123.68)  # of 0 to 255
_KERAS_EPSILON: Final = 1e-3  # of BatchNorm in the Keras ResNet50
_BOX_CLAMP: Final = 6.0  # exp(6) strides: far beyond any input


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How large the network is.

    Attributes
    ----------
    width
        Channels of the first stage; 64 for ResNet50.
    blocks
        Bottleneck blocks per stage; (3, 4, 6, 3) for ResNet50.
    neck
        Channels of the map that the fracture and box heads read.
    """

    width: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    neck: int = 192

    @property
    def layer3(self) -> int:
        """Channels of layer3, at stride 16."""
        return self.width * 16

    @property
    def layer4(self) -> int:
        """Channels of layer4, at stride 32."""
        return self.width * 32


TINY: Final = Shape(width=4, blocks=(1, 1, 1, 1), neck=8)
"""A network that runs in milliseconds, for tests."""


class Bottleneck(nn.Module):
    """ResNet v1 block: the stride is on the first 1x1 convolution."""

    def __init__(self, channels: int, middle: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, middle, 1, stride)
        self.conv2 = nn.Conv2d(middle, middle, 3, 1, 1)
        self.conv3 = nn.Conv2d(middle, middle * 4, 1)
        self.shortcut = nn.Conv2d(channels, middle * 4, 1, stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, h, w] to [N, 4 * middle, h / stride, w / stride]."""
        y = functional.relu(self.conv1(x))
        y = functional.relu(self.conv2(y))
        y = self.conv3(y)
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Trunk(nn.Module):
    """ResNet50 v1 for one grey channel, BatchNorm folded into the convolutions.

    Folding keeps the statistics of ImageNet, saves a third of the training time on a
    CPU, and makes the exported graph the trained one.
    """

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        shape = shape or Shape()
        self.conv1 = nn.Conv2d(1, shape.width, 7, 2, 3)
        channels = shape.width
        stages: list[nn.Sequential] = []
        for stage, count in enumerate(shape.blocks):
            middle = shape.width * 2**stage
            blocks = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(channels, middle, stride, project=not block))
                channels = middle * 4
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map [N, 1, S, S] from 0 to 1 to layer3 [N, C, S/16, S/16] and layer4 [.., S/32, ..]."""
        x = functional.relu(self.conv1(pixels))
        x = functional.max_pool2d(x, 3, 2, 1)
        x = self.layer2(self.layer1(x))
        layer3 = self.layer3(x)
        return layer3, self.layer4(layer3)

    def freeze_early_stages(self) -> None:
        """Leave the first convolution and layer1 as they are: edges are edges."""
        for module in (self.conv1, self.layer1):
            module.requires_grad_(requires_grad=False)


def load_imagenet(trunk: Trunk, path: Path) -> None:
    """Load the ImageNet ResNet50 of a safetensors file into a trunk.

    BatchNorm is folded into each convolution, and the BGR means and the range 0 to 255
    into the first, which then reads one grey channel from 0 to 1.

    Parameters
    ----------
    trunk
        Of the full shape.
    path
        File with torch's names (conv1, bn1, layerS.B.convN, layerS.0.downsample.0, ...).

    Raises
    ------
    KeyError
        If the file lacks a weight; the key is named.
    """
    source = {name: value.float() for name, value in load_file(path).items()}
    weight, bias = _folded(source, "conv1", "bn1")
    means = torch.tensor(_IMAGENET_BGR_MEANS)
    state = {
        "conv1.weight": 255.0 * weight.sum(1, keepdim=True),
        "conv1.bias": bias - (weight.sum((2, 3)) * means).sum(1),
    }
    for name in trunk.state_dict():
        if name == "conv1.weight" or not name.endswith(".weight") or name in state:
            continue
        stem = name.removesuffix(".weight")
        block, convolution = stem.rsplit(".", 1)
        if convolution == "shortcut":
            folded = _folded(source, f"{block}.downsample.0", f"{block}.downsample.1")
        else:
            folded = _folded(source, stem, f"{block}.bn{convolution[-1]}")
        state[f"{stem}.weight"], state[f"{stem}.bias"] = folded
    trunk.load_state_dict(state)


def _folded(source: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the BatchNorm after it folded in."""
    variance = source[f"{norm}.running_var"]
    factor = source[f"{norm}.weight"] / torch.sqrt(variance + _KERAS_EPSILON)
    weight = source[f"{conv}.weight"] * factor[:, None, None, None]
    return weight, source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * factor


def soft_maximum(maps: Tensor, sharpness: float) -> Tensor:
    """Pool [N, C, h, w] to [N, C] between mean (sharpness 0) and maximum (large).

    log(mean(exp(r x))) / r. Adding a constant to a map adds it to what is pooled.
    """
    flat = maps.flatten(2) * sharpness
    count = torch.tensor(float(flat.shape[2]), dtype=flat.dtype, device=flat.device)
    return (torch.logsumexp(flat, 2) - torch.log(count)) / sharpness


class RegionHead(nn.Module):
    """Which regions are in view, and where: one map per label, pooled softly."""

    def __init__(self, shape: Shape, sharpness: float = 2.0) -> None:
        super().__init__()
        self.layer3 = nn.Conv2d(shape.layer3, len(LABELS), 1)
        self.layer4 = nn.Conv2d(shape.layer4, len(LABELS), 1)
        self.sharpness = sharpness
        self.gain = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(len(LABELS)))
        for convolution in (self.layer3, self.layer4):
            nn.init.normal_(convolution.weight, std=0.002)
            nn.init.zeros_(cast(Tensor, convolution.bias))

    def forward(self, layer3: Tensor, layer4: Tensor) -> Tensor:
        """Region maps [N, labels, h, w] on layer4's grid."""
        fine = functional.avg_pool2d(self.layer3(layer3), 2)
        return cast(Tensor, self.layer4(layer4) + fine)

    def pool(self, maps: Tensor) -> Tensor:
        """Logits [N, labels] of the maps."""
        return self.gain * soft_maximum(maps, self.sharpness) + self.bias


class LimbHead(nn.Module):
    """Limb radiograph or anything else.

    Two witnesses that must agree: a learned score, and how much of the pooled features
    lies outside the subspace in which limb radiographs vary, which also refuses what no
    training picture resembled.
    """

    def __init__(self, shape: Shape, hidden: int = 64, axes: int = 64) -> None:
        super().__init__()
        channels = shape.layer3 + shape.layer4
        self.split = shape.layer3
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, 1)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.zeros(min(axes, channels // 2), channels))
        self.register_buffer("slope", torch.tensor(0.0))
        self.register_buffer("radius", torch.tensor(1.0))

    mean: Tensor
    axes: Tensor
    slope: Tensor
    radius: Tensor

    def pool(self, layer3: Tensor, layer4: Tensor) -> Tensor:
        """Mean features [N, C] on which both witnesses look."""
        return torch.cat([layer3.mean((2, 3)), layer4.mean((2, 3))], 1)

    def learned(self, pooled: Tensor) -> Tensor:
        """Logit [N, 1] of the learned witness."""
        return cast(Tensor, self.out(functional.relu(self.hidden(pooled))))

    def directions(self, pooled: Tensor) -> Tensor:
        """Both layers' features [N, C], each of length 1: contrast is no matter of kind."""
        layer3, layer4 = pooled[:, : self.split], pooled[:, self.split :]
        lengths = [x.square().sum(1, keepdim=True).sqrt() + 1e-6 for x in (layer3, layer4)]
        return torch.cat([layer3 / lengths[0], layer4 / lengths[1]], 1)

    def distance(self, pooled: Tensor) -> Tensor:
        """Length [N, 1] of what the subspace of limb radiographs does not explain."""
        centred = self.directions(pooled) - self.mean
        outside = centred - (centred @ self.axes.T) @ self.axes
        return outside.square().sum(1, keepdim=True).sqrt()

    def forward(self, layer3: Tensor, layer4: Tensor) -> Tensor:
        """limb_logit [N, 1]: the lower of both witnesses, softly."""
        pooled = self.pool(layer3, layer4)
        known = self.slope * (self.radius - self.distance(pooled)) + 30.0 * (self.slope == 0)
        witnesses = torch.cat([-self.learned(pooled), -known], 1)
        return -torch.logsumexp(witnesses, 1, keepdim=True)


class Neck(nn.Module):
    """layer3 and layer4 joined to one map at stride 16 for what is small."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer3 = nn.Conv2d(shape.layer3, shape.neck, 1)
        self.layer4 = nn.Conv2d(shape.layer4, shape.neck, 1)
        self.mix = nn.Conv2d(shape.neck, shape.neck, 3, 1, 1)

    def forward(self, layer3: Tensor, layer4: Tensor) -> Tensor:
        """Map [N, neck, S/16, S/16]."""
        coarse = functional.interpolate(self.layer4(layer4), scale_factor=2.0, mode="nearest")
        joined = functional.relu(self.layer3(layer3) + coarse)
        return functional.relu(self.mix(joined))


class FractureHead(nn.Module):
    """Fracture maps per region and boxes, on the neck's map.

    A region's map is a map shared by all bones, plus its own correction, plus what the
    whole view says (context, the same everywhere), plus where the region lies (the
    region map as attention): so an ankle's fracture does not speak for the knee in the
    same view.
    """

    def __init__(self, shape: Shape, sharpness: float = 1.0, floor: float = 0.05) -> None:
        super().__init__()
        self.shared = nn.Conv2d(shape.neck, 1, 1)
        self.own = nn.Conv2d(shape.neck, len(REGIONS), 1)
        self.centre = nn.Conv2d(shape.neck, 1, 1)
        self.edges = nn.Conv2d(shape.neck, 4, 1)
        self.context = nn.Linear(shape.neck, len(REGIONS))
        self.gain = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.full((len(REGIONS),), 2.0))
        self.sharpness = sharpness
        self.floor = floor
        nn.init.normal_(self.shared.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.shared.bias), -3.0)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)
        nn.init.zeros_(self.own.weight)
        nn.init.zeros_(cast(Tensor, self.own.bias))
        nn.init.constant_(cast(Tensor, self.centre.bias), -4.0)
        nn.init.zeros_(self.edges.weight)
        nn.init.constant_(cast(Tensor, self.edges.bias), 0.5)

    def attention(self, region_maps: Tensor) -> Tensor:
        """What is added to a map [N, regions, h, w] where the region is not: down to log(floor)."""
        where = torch.sigmoid(region_maps)
        where = functional.interpolate(where, scale_factor=2.0, mode="nearest")
        return torch.log(self.floor + (1.0 - self.floor) * where)

    def maps(self, neck: Tensor, region_maps: Tensor) -> Tensor:
        """Fracture maps [N, regions, h, w] at stride 16.

        `region_maps` are the region head's maps of the same regions, on layer4's grid.
        """
        attention = self.attention(region_maps)
        context = self.context(neck.mean((2, 3)))[:, :, None, None]
        return cast(Tensor, self.shared(neck) + self.own(neck) + attention + context)

    def pool(self, maps: Tensor) -> Tensor:
        """Logits [N, regions]: gain times the soft maximum of a map, plus a bias."""
        return self.gain * soft_maximum(maps, self.sharpness) + self.bias

    def boxes(self, neck: Tensor) -> tuple[Tensor, Tensor]:
        """Centre logits [N, 1, h, w] and distances to the four edges [N, 4, h, w], in strides."""
        distances = torch.exp(self.edges(neck).clamp(-_BOX_CLAMP, _BOX_CLAMP))
        return self.centre(neck), distances


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the whole network says of a batch; shapes as in the heads."""

    region_maps: Tensor
    region_logits: Tensor
    limb_logit: Tensor
    fracture_maps: Tensor
    fracture_logits: Tensor
    centres: Tensor
    distances: Tensor


class Network(nn.Module):
    """Trunk and every head."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.trunk = Trunk(self.shape)
        self.regions = RegionHead(self.shape)
        self.limb = LimbHead(self.shape)
        self.neck = Neck(self.shape)
        self.fracture = FractureHead(self.shape)

    def forward(self, pixels: Tensor) -> Outputs:
        """Everything that is said of [N, 1, S, S] from 0 to 1."""
        layer3, layer4 = self.trunk(pixels)
        return self.heads(layer3, layer4)

    def heads(self, layer3: Tensor, layer4: Tensor) -> Outputs:
        """Everything that reads the trunk's maps."""
        region_maps = self.regions(layer3, layer4)
        neck = self.neck(layer3, layer4)
        # The place of a region is learned from region labels, not bent by fractures.
        fracture_maps = self.fracture.maps(neck, region_maps[:, : len(REGIONS)].detach())
        centres, distances = self.fracture.boxes(neck)
        return Outputs(
            region_maps=region_maps,
            region_logits=self.regions.pool(region_maps),
            limb_logit=self.limb(layer3, layer4),
            fracture_maps=fracture_maps,
            fracture_logits=self.fracture.pool(fracture_maps),
            centres=centres,
            distances=distances,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.trunk.conv1.weight.device

    def head_parameters(self) -> Sequence[nn.Parameter]:
        """Parameters of everything but the trunk."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("trunk.") and parameter.requires_grad
        ]


def cell_boxes(distances: Tensor, stride: int = 16) -> Tensor:
    """Boxes [N, h*w, 4] (left, top, right, bottom) in input pixels from edge distances."""
    _, _, height, width = distances.shape
    x = (torch.arange(width, dtype=distances.dtype, device=distances.device) + 0.5) * stride
    y = (torch.arange(height, dtype=distances.dtype, device=distances.device) + 0.5) * stride
    left, top, right, bottom = (distances * stride).unbind(1)
    edges = [x[None, None, :] - left, y[None, :, None] - top]
    edges += [x[None, None, :] + right, y[None, :, None] + bottom]
    return torch.stack(edges, 3).flatten(1, 2)

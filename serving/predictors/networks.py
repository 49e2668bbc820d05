"""Network architectures that a model.yaml can name, built from arguments: weights load without pickle."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from serving.predictors.package import InvalidPackage


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions with instance normalisation and a shortcut; `stride` 2 halves each axis."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.InstanceNorm3d(channels, affine=True)
        self.second = nn.Conv3d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.InstanceNorm3d(channels, affine=True)
        self.shortcut = nn.Conv3d(channels_in, channels, 1, stride, bias=False)
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, X, Y, Z) to (N, channels, X/stride, Y/stride, Z/stride)."""
        inner = self.activation(self.first_norm(self.first(x)))
        return cast(Tensor, self.activation(self.second_norm(self.second(inner)) + self.shortcut(x)))


class MergeBlock(nn.Module):
    """One decoder step: up-sample by two, join the encoder's features, convolve."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(channels_in, channels, 2, 2)
        self.conv = nn.Conv3d(2 * channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.InstanceNorm3d(channels, affine=True)
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Coarse features and the skip connection to features at the skip's size."""
        return cast(Tensor, self.activation(self.norm(self.conv(torch.cat([self.up(x), skip], dim=1)))))


class ResidualUNet3d(nn.Module):
    """A small U-Net after nnU-Net's residual encoder: residual encoder, light decoder, deep supervision.

    `forward` gives the logits at full size; `forward_all` at full, half and quarter size, for training.
    Every axis of the input must be divisible by 2 ** (len(widths) - 1).
    """

    def __init__(
        self, channels_in: int, channels_out: int, widths: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.encoder = nn.ModuleList([ResidualBlock(channels_in, widths[0])])
        self.encoder.extend(ResidualBlock(narrow, wide, stride=2) for narrow, wide in steps)
        self.dropout = nn.Dropout3d(dropout)
        self.decoder = nn.ModuleList(MergeBlock(wide, narrow) for narrow, wide in reversed(steps))
        self.heads = nn.ModuleList(
            nn.Conv3d(width, channels_out, 1) for width in widths[: min(3, len(steps))]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, X, Y, Z) to logits (N, channels_out, X, Y, Z)."""
        return cast(Tensor, self.heads[0](self._features(x)[0]))

    def forward_all(self, x: Tensor) -> list[Tensor]:
        """The logits at full size, then at each coarser size that has a head."""
        return [head(features) for head, features in zip(self.heads, self._features(x), strict=False)]

    def _features(self, x: Tensor) -> list[Tensor]:
        """Decoder features, finest first."""
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x = self.dropout(x)
        found: list[Tensor] = []
        for block, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            x = block(x, skip)
            found.append(x)
        return found[::-1]


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"residual-unet-3d": ResidualUNet3d}


def build_network(architecture: dict[str, Any]) -> nn.Module:
    """The network that `architecture: {name, arguments}` describes. Raises InvalidPackage if unknown."""
    name = architecture.get("name")
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InvalidPackage(f"unknown architecture {name!r}; known: {known}")
    try:
        return ARCHITECTURES[name](**architecture.get("arguments", {}))
    except TypeError as error:
        raise InvalidPackage(f"architecture {name!r}: {error}") from error

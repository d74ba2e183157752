"""MobileNetV2 and MobileNetV3-Large as encoders: features at five sizes instead of a class."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from modelkit.models.layers import Activation, SqueezeExcite, conv, depthwise, eighths


@dataclass(frozen=True, slots=True)
class Row:
    """One inverted residual of the published tables: channels at the tables' own width, before scaling."""

    kernel: int
    expanded: int
    out: int
    stride: int
    gated: bool = False
    activation: Activation = "relu6"


def _v2() -> tuple[Row, ...]:
    rows: list[Row] = []
    into = 32
    for times, out, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(repeats):
            rows.append(Row(3, times * into, out, stride if index == 0 else 1))
            into = out
    return tuple(rows)


V2: Final = _v2()
"""Sandler et al. 2018, table 2, without the last convolution: that one is for classification. Its stem has 32."""
V3: Final = (
    Row(3, 16, 16, 1, activation="relu"),
    Row(3, 64, 24, 2, activation="relu"),
    Row(3, 72, 24, 1, activation="relu"),
    Row(5, 72, 40, 2, gated=True, activation="relu"),
    Row(5, 120, 40, 1, gated=True, activation="relu"),
    Row(5, 120, 40, 1, gated=True, activation="relu"),
    Row(3, 240, 80, 2, activation="hard-swish"),
    Row(3, 200, 80, 1, activation="hard-swish"),
    Row(3, 184, 80, 1, activation="hard-swish"),
    Row(3, 184, 80, 1, activation="hard-swish"),
    Row(3, 480, 112, 1, gated=True, activation="hard-swish"),
    Row(3, 672, 112, 1, gated=True, activation="hard-swish"),
    Row(5, 672, 160, 2, gated=True, activation="hard-swish"),
    Row(5, 960, 160, 1, gated=True, activation="hard-swish"),
    Row(5, 960, 160, 1, gated=True, activation="hard-swish"),
)
"""Howard et al. 2019, table 1 (Large), without the last convolution. Its stem has 16."""


class _Residual(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    def __init__(self, row: Row, into: int, scale: float, dilation: int) -> None:
        super().__init__()
        wide, out = eighths(row.expanded * scale), eighths(row.out * scale)
        stride = 1 if dilation > 1 else row.stride
        layers: list[nn.Module] = []
        if wide != into:
            layers.append(conv(into, wide, 1, activation=row.activation))
        layers.append(depthwise(wide, row.kernel, stride, dilation, row.activation))
        if row.gated:
            layers.append(SqueezeExcite(wide))
        layers.append(conv(wide, out, 1, activation="none"))
        self.body = nn.Sequential(*layers)
        self.adds = into == out and stride == 1
        self.out = out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileNet(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes (N, 3 * inputs, H, W); gives features at H/2, H/4, H/8, H/16 and H/32, of `channels`.

    `width` is the stem's; all else scales with it, `published_width` being that of the table. `dilated` keeps the last
    stage at H/16 and widens its reach instead, which then gives four features.
    """

    def __init__(
        self, rows: tuple[Row, ...], inputs: int, width: int, published_width: int, *, dilated: bool = False
    ) -> None:
        super().__init__()
        scale, into = width / published_width, eighths(width)
        first: Activation = "relu6" if rows is V2 else "hard-swish"
        stage: list[nn.Module] = [conv(3 * inputs, into, stride=2, activation=first)]
        stages, self.channels = [stage], [into]
        shrunk, dilation = 2, 1
        for row in rows:
            if row.stride == 2 and dilated and shrunk == 16:
                dilation = 2
            elif row.stride == 2:
                shrunk *= 2
                stages.append(stage := [])
                self.channels.append(into)
            block = _Residual(row, into, scale, dilation)
            stage.append(block)
            into = self.channels[-1] = block.out
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def v2(inputs: int, width: int) -> MobileNet:
    """`width` 32 is the published network."""
    return MobileNet(V2, inputs, width, 32)


def v3(inputs: int, width: int, *, dilated: bool = False) -> MobileNet:
    """`width` 16 is the published network."""
    return MobileNet(V3, inputs, width, 16, dilated=dilated)

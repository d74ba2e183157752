"""Networks that compute in training as the NPU will in int8: each weight and each activation is rounded, and the
gradient passes straight through the rounding.

Own, small modules rather than torch.ao: its graph mode cannot follow a `forward` of any number of pictures, its module
mode leaves sums and concatenations in float, and neither learns ranges. Here the calls of torch's functions are watched
as they are made, so every network whose calls are the same for each picture is quantised as it stands.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from modelkit.plan import DEVIATION, MEAN

_LEVELS: Final = 255
_AXES: Final[dict[Any, int]] = {torch.conv2d: 0, torch.conv_transpose2d: 1, functional.linear: 0}
"""Functions with a weight as their second argument, and the axis of its output channels."""
_CONVOLUTIONS: Final = frozenset({"conv2d", "conv_transpose2d", "linear"})
_ENDINGS: Final = frozenset({"relu", "relu_", "relu6", "hardtanh", "hardtanh_"})
"""The NPU computes these at the end of a convolution, whose own result is then never rounded."""
_MOVES: Final = frozenset(
    {"view", "reshape", "permute", "transpose", "flatten", "unflatten", "contiguous", "squeeze", "unsqueeze", "expand"}
    | {"clone", "max_pool2d", "cat", "__getitem__", "pixel_shuffle"}
)
"""These only choose among values, or move them: what comes out has the range of what went in, which all that goes in
shares.
"""


class Range(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Rounds to 256 steps between `low` and `high`, which are learned and always have 0 between them.

    With `observing` it widens to what passes and changes nothing.
    """

    def __init__(self, low: float = 0.0, high: float = 0.0, *, fixed: bool = False) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.tensor(low), requires_grad=not fixed)
        self.high = nn.Parameter(torch.tensor(high), requires_grad=not fixed)
        self.observing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.observing:
            if self.low.requires_grad:
                self.low.data.clamp_(max=float(x.min()))
                self.high.data.clamp_(min=float(x.max()))
            return x
        if not torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
            return torch.fake_quantize_per_tensor_affine(x, *self.grid(), -128, 127)
        # The gradient of a range sums over all of x; without this it would drown that of the weights.
        share = (x.numel() * _LEVELS) ** -0.5
        low, high = (_slowed(end, share) for end in (self.low.clamp(max=0), self.high.clamp(min=0)))
        scale = (high - low).clamp(min=1e-6) / _LEVELS
        zero = _rounded(-low / scale)
        return (_rounded((x / scale + zero).clamp(0, _LEVELS)) - zero) * scale

    def grid(self) -> tuple[float, int]:
        """Scale and zero point of signed bytes, as the ONNX file states them."""
        low, high = self.low.detach().clamp(max=0), self.high.detach().clamp(min=0)
        scale = (high - low).clamp(min=1e-6) / _LEVELS
        return float(scale), int(torch.round(-low / scale)) - 128


class Quantised(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """The network within, with every activation rounded to a learned range and every weight, by output channel, to
    the 255 steps between plus and minus its largest. `folded` are the names of convolutions and of the batch
    normalisations that went into them. Raises RuntimeError when the calls of a picture are not those of `pictures`.
    """

    def __init__(self, net: nn.Module, pictures: Sequence[torch.Tensor], folded: Sequence[Sequence[str]] = ()) -> None:
        super().__init__()
        self.net = net
        self.folded = [list(pair) for pair in folded]
        self.pictures = nn.ModuleList(Range(-MEAN / DEVIATION, (255 - MEAN) / DEVIATION, fixed=True) for _ in pictures)
        watch = _Watch()
        net.eval()
        with torch.no_grad(), watch:
            net(*pictures)
        self.sites = watch.sites()
        self.ranges = nn.ModuleList(Range() for _ in range(max(self.sites, default=-1) + 1))

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        # A step of an activation may be finer than bfloat16 tells apart.
        with torch.autocast("cpu", enabled=False):
            inputs = [cast(picture.float()) for cast, picture in zip(self.pictures, pictures, strict=True)]
            with _Round(self.sites, self.ranges) as rounding:
                logits = self.net(*inputs)
        if rounding.made != len(self.sites):
            raise RuntimeError(f"the network made {rounding.made} calls, and {len(self.sites)} when it was quantised")
        return logits

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 # the signature is torch's
        """Dropout and the like stay off: they would be other calls than those that were watched."""
        super().train(mode)
        self.net.eval()
        return self

    def observe(self, *, on: bool) -> None:
        """Between on and off, ranges widen to all that passes."""
        for each in self.ranges:
            each.observing = on


def weight_scale(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """Of each output channel: its largest magnitude is 127 steps."""
    others = [each for each in range(weight.ndim) if each != axis]
    return weight.detach().abs().amax(others).clamp(min=1e-8) / 127


class _Watch(TorchFunctionMode):  # type: ignore[misc] # torch is not installed where the types are checked
    """Notes which call takes what another gave."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[list[int]] = []
        self.takers: list[list[int]] = []
        self._made_by: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []  # a tensor that is gone could give its id to another

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if _counts(func, out):
            place = len(self.names)
            taken = [self._made_by[id(each)] for each in _tensors(args) if id(each) in self._made_by]
            for source in taken:
                self.takers[source].append(place)
            self.names.append(_name(func, kwargs))
            self.sources.append(taken)
            self.takers.append([])
            self._made_by[id(out)] = place
            self._kept.append(out)
        return out

    def sites(self) -> list[int]:
        """For each call the number of the range that its result is rounded to, or -1."""
        shared = list(range(len(self.names)))
        for place, name in enumerate(self.names):
            if name in _MOVES:
                for source in self.sources[place]:
                    old, new = shared[source], shared[place]
                    shared = [new if each == old else each for each in shared]
        numbers: dict[int, int] = {}
        return [
            -1 if self._ends_later(place) else numbers.setdefault(group, len(numbers))
            for place, group in enumerate(shared)
        ]

    def _ends_later(self, place: int) -> bool:
        takers = self.takers[place]
        return self.names[place] in _CONVOLUTIONS and all(self.names[each] in _ENDINGS for each in takers or [place])


class _Round(TorchFunctionMode):  # type: ignore[misc] # torch is not installed where the types are checked
    def __init__(self, sites: Sequence[int], ranges: nn.ModuleList) -> None:
        super().__init__()
        self.made = 0
        self._sites, self._ranges = sites, ranges

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _AXES:
            args = (args[0], _rounded_weight(args[1], _AXES[func]), *args[2:])
        out = func(*args, **(kwargs or {}))
        if not _counts(func, out):
            return out
        site = self._sites[self.made] if self.made < len(self._sites) else -1
        self.made += 1
        return out if site < 0 else self._ranges[site](out)


def _rounded_weight(weight: torch.Tensor, axis: int) -> torch.Tensor:
    scale = weight_scale(weight, axis)
    if torch.onnx.is_in_onnx_export():
        scale = torch.tensor(scale.tolist())  # a constant of the file, where a computed one would stay a computation
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -128, 127)


def _counts(func: Callable[..., Any], out: object) -> bool:
    return isinstance(out, torch.Tensor) and out.is_floating_point() and getattr(func, "__name__", "") != "__get__"


def _name(func: Callable[..., Any], kwargs: dict[str, Any] | None) -> str:
    name = getattr(func, "__name__", "")
    if name == "interpolate":
        return "max_pool2d" if (kwargs or {}).get("mode", "nearest") == "nearest" else name
    return "max_pool2d" if name == "fn" else name


def _tensors(args: object) -> list[torch.Tensor]:
    if isinstance(args, torch.Tensor):
        return [args]
    return [each for arg in args for each in _tensors(arg)] if isinstance(args, tuple | list) else []


def _rounded(x: torch.Tensor) -> torch.Tensor:
    return x + (torch.round(x) - x).detach()


def _slowed(x: torch.Tensor, share: float) -> torch.Tensor:
    return x * share + (x * (1 - share)).detach()

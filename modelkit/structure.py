"""What a network has become since it was built: fewer channels, folded normalisation, fake quantisation.

A checkpoint keeps it beside the weights, so that whoever loads the weights first gets a network that they fit.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from modelkit.fake_quant import Quantised

_DRY_RUN_PX: Final = 64
"""A multiple of what every architecture halves its pictures by; the calls are the same at any size."""


def structure(net: nn.Module) -> dict[str, Any]:
    """Of plain values, for a checkpoint: `channels` {layer: [into, out, groups]}, `folded` [[convolution,
    normalisation]], `quantised`.
    """
    quantised = isinstance(net, Quantised)
    inner = net.net if quantised else net
    channels = {name: sizes for name, layer in inner.named_modules() if (sizes := _sizes(layer))}
    return {"channels": channels, "folded": net.folded if quantised else [], "quantised": quantised}


def rebuilt(net: nn.Module, kept: Mapping[str, Any], inputs: int) -> nn.Module:
    """`net`, as its architecture makes it, given the structure that `structure` told; its weights are to be loaded.

    Raises ValueError where the structure is not that of this architecture.
    """
    _fold(net, kept.get("folded", []))
    layers = dict(net.named_modules())
    for name, sizes in kept.get("channels", {}).items():
        if name not in layers or not _sizes(layers[name]):
            raise ValueError(f"the checkpoint has a layer {name}, which the architecture has not")
        if _sizes(layers[name]) != sizes:
            _resize(layers[name], *sizes)
    if not kept.get("quantised"):
        return net
    return Quantised(net, pictures(inputs), kept["folded"])


def pictures(inputs: int) -> list[torch.Tensor]:
    """For a dry run: `inputs` of (1, 3, 64, 64)."""
    return [torch.zeros(1, 3, _DRY_RUN_PX, _DRY_RUN_PX) for _ in range(inputs)]


def folded(net: nn.Module, inputs: int) -> list[list[str]]:
    """Fold each batch normalisation into the convolution before it; return the names of both. The network must be in
    evaluation mode, and gives what it gave.
    """
    made_by: dict[int, str] = {}
    kept: list[torch.Tensor] = []  # a tensor that is gone could give its id to another
    pairs: list[list[str]] = []

    def note(name: str) -> Any:
        def hook(_layer: nn.Module, _taken: object, made: torch.Tensor) -> None:
            kept.append(made)
            made_by[id(made)] = name

        return hook

    def match(name: str) -> Any:
        def hook(_layer: nn.Module, taken: tuple[torch.Tensor, ...]) -> None:
            if id(taken[0]) in made_by:
                pairs.append([made_by[id(taken[0])], name])

        return hook

    hooks = [
        layer.register_forward_hook(note(name))
        if _is_convolution(layer)
        else layer.register_forward_pre_hook(match(name))
        for name, layer in net.named_modules()
        if _is_convolution(layer) or isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        net(*pictures(inputs))
    for hook in hooks:
        hook.remove()
    for convolution, normalisation in pairs:
        before, after = net.get_submodule(convolution), net.get_submodule(normalisation)
        turned = isinstance(before, nn.ConvTranspose2d)
        fused = nn.utils.fuse_conv_bn_eval(before, after, turned)
        fused.bias.requires_grad_(fused.weight.requires_grad)  # where there was none, the library makes a frozen one
        net.set_submodule(convolution, fused)
        net.set_submodule(normalisation, nn.Identity())
    return pairs


def _fold(net: nn.Module, pairs: list[list[str]]) -> None:
    """Only the shape of it; the weights come folded."""
    for convolution, normalisation in pairs:
        try:
            layer = net.get_submodule(convolution)
            net.set_submodule(normalisation, nn.Identity())
        except AttributeError as error:
            raise ValueError(f"the checkpoint is of another architecture: {error}") from error
        layer.bias = nn.Parameter(torch.zeros(layer.out_channels))


def _is_convolution(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)


def _sizes(layer: nn.Module) -> list[int]:
    if _is_convolution(layer):
        return [layer.in_channels, layer.out_channels, layer.groups]
    if isinstance(layer, nn.BatchNorm2d):
        return [layer.num_features, layer.num_features, 1]
    if isinstance(layer, nn.LayerNorm):
        return [layer.normalized_shape[-1], layer.normalized_shape[-1], 1]
    if isinstance(layer, nn.Linear):
        return [layer.in_features, layer.out_features, 1]
    return []


def _resize(layer: nn.Module, into: int, out: int, groups: int) -> None:
    if _is_convolution(layer):
        first, second = (into, out // groups) if isinstance(layer, nn.ConvTranspose2d) else (out, into // groups)
        layer.in_channels, layer.out_channels, layer.groups = into, out, groups
        layer.weight = nn.Parameter(torch.zeros(first, second, *layer.kernel_size))
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = into, out
        layer.weight = nn.Parameter(torch.zeros(out, into))
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (out,)
        layer.weight = nn.Parameter(torch.ones(out))
    else:
        layer.num_features = out
        layer.weight = nn.Parameter(torch.ones(out))
        layer.running_mean, layer.running_var = torch.zeros(out), torch.ones(out)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(out))

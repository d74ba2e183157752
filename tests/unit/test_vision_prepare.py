from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.frame import Layout, Picture
from agent.core.vision import Roi, Stitch, View, prepare, quality, to_rgb
from schemas.manifest import Manifest
from schemas.recipe import ClassRule, ClassRules

Pixels = npt.NDArray[np.uint8]
LETTERBOX: dict[str, Any] = {"op": "letterbox", "fill": 7}
HASH = "0" * 64


def _manifest(
    *preprocess: dict[str, Any], shape: tuple[int, int] = (64, 96), roles: tuple[str, ...] = ("image",), **more: Any
) -> Manifest:
    score = {"miou": 0.5, "iou": {}}
    document: dict[str, Any] = {
        "name": "boards",
        "version": "1",
        "createdAt": "2026-01-31T12:00:00Z",
        "classes": [
            {"id": i, "name": name, "colour": "#ff0000", "severity": "none" if i == 0 else "major"}
            for i, name in enumerate(("background", "open", "short", "spur"))
        ],
        "inputs": [{"name": f"in{i}", "role": role, "shapes": [shape]} for i, role in enumerate(roles)],
        "preprocess": preprocess or (LETTERBOX,),
        "output": "logits",
        "variants": [
            {
                "target": "cpu",
                "runtime": "onnx",
                "toolkitVersion": "1",
                "dtype": "float32",
                "file": "m.onnx",
                "bytes": 1,
            }
            | {"sha256": HASH}
        ],
        "golden": {"frames": [{"inputs": ["a.png"], "classMap": "b.png", "sha256": {}}], "leastAgreement": 0.9},
        "accuracy": {"dataset": "d", "images": 1, "float32": score},
        "lineage": {"architecture": "unet", "parameters": 1},
    }
    return Manifest.model_validate(document | more)


def _view(*preprocess: dict[str, Any], roi: Roi | None = None, **more: Any) -> View:
    return View.of(_manifest(*preprocess, **more), roi, ClassRules())


def _rgb(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth at the model's scale too, where NV12 keeps colour at half the resolution."""
    coarse = np.random.default_rng(seed).integers(70, 186, (3, 3, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return Picture(np.asarray(smooth, np.uint8), Layout.RGB)


def _nv12(picture: Picture) -> Picture:
    height, width = picture.pixels.shape[:2]
    planar = np.asarray(cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2YUV_I420), np.uint8)
    chroma = planar[height:].reshape(2, -1)
    pixels = np.concatenate([planar[:height].ravel(), chroma.T.ravel()]).reshape(height * 3 // 2, width)
    return Picture(pixels, Layout.NV12)


@settings(deadline=None, max_examples=60)
@given(st.integers(30, 300), st.integers(30, 300), st.integers(0, 99), st.booleans())
def test_nv12_planes_scaled_first_look_as_converted_first(half_h: int, half_w: int, seed: int, crop: bool) -> None:
    nv12 = _nv12(_rgb(2 * half_h, 2 * half_w, seed))
    view = _view(roi=Roi(6, 10, half_w, half_h) if crop else None)
    fast = prepare(nv12, view)
    slow_view = _view(roi=fast.placement.roi)
    slow = prepare(Picture(to_rgb(nv12), Layout.RGB), slow_view)
    assert fast.placement == slow.placement
    difference = np.abs(fast.inputs[0][0].astype(int) - slow.inputs[0][0])
    assert difference.mean() <= 3
    assert np.percentile(difference, 99) <= 16


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), st.booleans(), st.booleans())
def test_any_picture_becomes_inputs_of_the_models_shape(height: int, width: int, nv12: bool, clahe: bool) -> None:
    if nv12:
        height, width = height + height % 2, width + width % 2
        picture = Picture(np.full((height * 3 // 2, width), 128, np.uint8), Layout.NV12)
    else:
        picture = Picture(np.full((height, width, 3), 128, np.uint8), Layout.RGB)
    step: tuple[dict[str, Any], ...] = ({"op": "clahe"},) if clahe else ()
    for fit in (LETTERBOX, {"op": "tile", "overlapPx": 8}, {"op": "tile", "overlapPx": 8, "scale": 0.3}):
        prepared = prepare(picture, _view(*step, fit))
        assert len(prepared.inputs) == prepared.placement.tiles
        for (tile,) in prepared.inputs:
            assert tile.shape == (64, 96, 3)
            assert tile.dtype == np.uint8
            assert tile.flags.c_contiguous
        measures = quality(prepared)
        assert measures.contrast == pytest.approx(0, abs=1e-3)
        assert measures.sharpness == 0


def test_letterbox_fills_around_the_centred_picture() -> None:
    picture = Picture(np.full((100, 100, 3), 200, np.uint8), Layout.RGB)
    ((tile,),) = prepare(picture, _view()).inputs
    assert (tile[:, :16] == 7).all()
    assert (tile[:, 16:80] == 200).all()
    assert (tile[:, 80:] == 7).all()


def test_a_picture_of_the_models_size_is_not_changed() -> None:
    picture = _rgb(65, 97)
    ((tile,),) = prepare(picture, _view(shape=(65, 97))).inputs
    assert (tile == picture.pixels).all()


def test_a_thin_line_survives_the_reduction_wherever_it_lies() -> None:
    for column in range(200, 216):
        pixels = np.zeros((512, 768, 3), np.uint8)
        pixels[:, column : column + 2] = 255
        ((tile,),) = prepare(Picture(pixels, Layout.RGB), _view()).inputs
        assert tile[32].max() >= 30


@settings(deadline=None, max_examples=30)
@given(st.integers(20, 300), st.integers(20, 300), st.booleans())
def test_tiling_equals_whole_for_a_model_that_looks_at_single_pixels(height: int, width: int, clahe: bool) -> None:
    step: tuple[dict[str, Any], ...] = ({"op": "clahe"},) if clahe else ()
    picture = Picture(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8), Layout.RGB)
    tiled = prepare(picture, _view(*step, {"op": "tile", "overlapPx": 12}))
    whole = prepare(picture, _view(*step, {"op": "tile", "overlapPx": 0}, shape=(300, 300)))
    results = []
    for prepared in (tiled, whole):
        stitch = Stitch(prepared.placement)
        for i, (tile,) in enumerate(prepared.inputs):
            stitch.add(i, tile[..., 0] // 64, tile[..., 1])
        results.append(stitch.result())
    assert (results[0][0] == results[1][0]).all()
    assert (results[0][1] == results[1][1]).all()


def test_equalisation_raises_contrast_and_leaves_the_measures_alone() -> None:
    flat = Picture((_rgb(64, 96).pixels // 8 + 100).astype(np.uint8), Layout.RGB)
    plain, equal = prepare(flat, _view()), prepare(flat, _view({"op": "clahe", "clipLimit": 4, "grid": 2}, LETTERBOX))
    assert equal.inputs[0][0].std() > 1.3 * plain.inputs[0][0].std()
    assert quality(equal) == quality(plain)


def test_the_reference_is_prepared_in_the_same_way_and_in_the_manifests_order() -> None:
    picture, reference = _rgb(200, 300, 1), _rgb(200, 300, 2)
    view = _view({"op": "tile", "overlapPx": 8}, roles=("reference", "image"), roi=Roi(20, 30, 200, 100))
    alone = _view({"op": "tile", "overlapPx": 8}, roi=Roi(20, 30, 200, 100))
    both = prepare(picture, view, reference).inputs
    for (first, second), (own,), (other,) in zip(
        both, prepare(picture, alone).inputs, prepare(reference, alone).inputs, strict=True
    ):
        assert (second == own).all()
        assert (first == other).all()


def test_a_missing_or_different_reference_is_refused() -> None:
    view = _view(roles=("image", "reference"))
    with pytest.raises(ValueError, match="reference picture"):
        prepare(_rgb(64, 96), view)
    with pytest.raises(ValueError, match="another size"):
        prepare(_rgb(64, 96), view, _rgb(64, 98))


@pytest.mark.parametrize(
    ("pixels", "layout"),
    [
        pytest.param(np.zeros((9, 5), np.uint8), Layout.NV12, id="NV12 of odd width"),
        pytest.param(np.zeros((10, 6), np.uint8), Layout.NV12, id="NV12 with a broken chroma plane"),
        pytest.param(np.zeros((6, 6, 3), np.uint8), Layout.NV12, id="RGB called NV12"),
        pytest.param(np.zeros((6, 6), np.uint8), Layout.RGB, id="grey called RGB"),
        pytest.param(np.zeros((6, 6, 4), np.uint8), Layout.RGB, id="RGBA"),
        pytest.param(np.zeros((0, 6, 3), np.uint8), Layout.RGB, id="empty"),
        pytest.param(np.zeros((6, 6, 3), np.float32), Layout.RGB, id="float"),
    ],
)
def test_pixels_that_are_not_their_layout_are_refused(pixels: Any, layout: Layout) -> None:
    with pytest.raises(ValueError, match=r"NV12 is|RGB is|uint8"):
        prepare(Picture(pixels, layout), _view())


def test_odd_height_nv12_is_refused() -> None:
    # 3 rows of Y would need one and a half rows of chroma.
    with pytest.raises(ValueError, match="NV12 is"):
        prepare(Picture(np.zeros((5, 6), np.uint8), Layout.NV12), _view())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"shape": (4, 96)}, "at least 8x8", id="tiny"),
        pytest.param(
            {
                "inputs": [
                    {"name": "a", "shapes": [(64, 64)]},
                    {"name": "b", "role": "reference", "shapes": [(64, 96)]},
                ]
            },
            "one shape",
            id="inputs of different shapes",
        ),
        pytest.param({"preprocess": [{"op": "tile", "overlapPx": 40}]}, "half a tile", id="overlap"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        View.of(_manifest(**more), None, ClassRules())


def test_the_recipe_goes_before_the_manifest_and_a_class_before_all() -> None:
    manifest = _manifest(
        postprocess=[
            {"op": "threshold", "minScore": 0.2, "perClass": {"open": 0.4}},
            {"op": "leastArea", "px": 5, "perClass": {"short": 9}},
        ]
    )
    plain = View.of(manifest, None, ClassRules())
    assert plain.limits[:5] == bytes([255, 101, 50, 50, 255])
    assert plain.least_area_px == (5, 5, 9, 5)
    rules = ClassRules(
        default=ClassRule(least_area_px=7),
        per_class={"open": ClassRule(min_score=0.6), "spur": ClassRule(ignore=True, least_area_px=1)},
    )
    view = View.of(manifest, None, rules)
    assert view.limits[:5] == bytes([255, 152, 50, 255, 255])
    assert view.least_area_px == (7, 7, 7, 1)


def test_measures_tell_dark_bright_and_blurred_pictures_apart() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)
    sharp, soft = (quality(prepare(Picture(pixels, Layout.RGB), _view())) for pixels in (noise, blurred))
    assert sharp.sharpness > 20 * soft.sharpness
    assert sharp.contrast > soft.contrast
    white = quality(prepare(Picture(np.full((64, 96, 3), 255, np.uint8), Layout.RGB), _view()))
    assert (white.brightness, white.saturated_share) == (255, 1)
    assert soft.saturated_share == 0

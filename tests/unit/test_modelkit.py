"""The model kit: arithmetic of the scores, pictures for training, and the two bundles that come with the project."""

import hashlib
import importlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

import modelkit
from agent.core.health import agreement
from agent.core.rknn_header import parse_header, require_target
from modelkit import cli, synthesise
from modelkit.classmap import best, kept
from modelkit.data import Sample
from modelkit.evaluate import Tally
from schemas.manifest import Manifest
from schemas.target import Target

ZOO = Path(modelkit.__file__).parent / "zoo"
BUNDLES = sorted(path.parent for path in ZOO.glob("*/manifest.json"))
MIB = 2**20


def manifest_of(bundle: Path) -> Manifest:
    return Manifest.model_validate_json((bundle / "manifest.json").read_bytes())


def picture(path: Path, flag: int) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), flag), np.uint8)


def filled(value: int, box: tuple[int, int, int, int]) -> np.ndarray:
    out = np.zeros((20, 20), np.uint8)
    top, left, bottom, right = box
    out[top:bottom, left:right] = value
    return out


def test_three_bundles_come_with_the_project() -> None:
    assert [bundle.name for bundle in BUNDLES] == ["pcb-unet-1.0.0", "pcb-unet-1.1.0", "pcb-unet-ref-2.0.0"]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_is_what_its_manifest_says(bundle: Path) -> None:
    manifest = manifest_of(bundle)
    assert f"{manifest.name}-{manifest.version}" == bundle.name
    assert {variant.target for variant in manifest.variants} == set(Target)
    for variant in manifest.variants:
        data = (bundle / variant.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (variant.bytes, variant.sha256)
    for frame in manifest.golden.frames:
        assert set(frame.sha256) == {*frame.inputs, frame.class_map}
        for name, digest in frame.sha256.items():
            assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_is_small_and_holds_nothing_else(bundle: Path) -> None:
    manifest = manifest_of(bundle)
    named = {"manifest.json", *(variant.file for variant in manifest.variants)}
    named |= {name for frame in manifest.golden.frames for name in frame.sha256}
    files = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    assert set(files) == named
    assert max(files.values()) < 3 * MIB
    assert sum(files.values()) < 10 * MIB
    assert manifest.lineage.parameters < 1_000_000


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_cpu_variant_agrees_with_the_golden_class_maps(bundle: Path) -> None:
    manifest = manifest_of(bundle)
    variant = manifest.variant(Target.CPU)
    assert variant is not None
    session = ort.InferenceSession(str(bundle / variant.file), providers=["CPUExecutionProvider"])
    high, wide = manifest.inputs[0].shapes[0]
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape) == ("tensor(uint8)", [1, high, wide, 3])
    agreements = []
    for frame in manifest.golden.frames:
        feed = {
            spec.name: picture(bundle / name, cv2.IMREAD_COLOR_RGB)[None]
            for spec, name in zip(session.get_inputs(), frame.inputs, strict=True)
        }
        reference = picture(bundle / frame.class_map, cv2.IMREAD_GRAYSCALE)
        logits = session.run(None, feed)[0]
        assert logits.shape == (1, len(manifest.classes), high, wide)
        agreements.append(agreement(best(logits[0])[0], reference, len(manifest.classes)))
        nothing = agreement(np.zeros_like(reference), reference, len(manifest.classes))
        assert nothing < manifest.golden.least_agreement, "a model that finds nothing must not pass"
    assert min(agreements) >= manifest.golden.least_agreement


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_each_rknn_file_names_its_target(bundle: Path) -> None:
    for variant in manifest_of(bundle).variants:
        if variant.runtime == "rknn":
            header = parse_header((bundle / variant.file).read_bytes())
            require_target(header, variant.target)
            assert header.toolkit.startswith(variant.toolkit_version)


def test_the_second_bundle_is_clearly_better() -> None:
    first, second = (manifest_of(bundle).accuracy for bundle in BUNDLES[:2])
    assert second.float32.miou > first.float32.miou + 0.05
    assert first.int8 is not None
    assert second.int8 is not None
    assert second.int8.miou > first.int8.miou + 0.05


TRUTH = filled(1, (2, 2, 6, 6))


@pytest.mark.parametrize(
    ("predicted", "iou", "precision", "recall"),
    [
        pytest.param(TRUTH, 1.0, 1.0, 1.0, id="the same"),
        pytest.param(filled(1, (2, 2, 6, 4)), 0.5, 1.0, 1.0, id="half of it: the region is found"),
        pytest.param(filled(0, (0, 0, 0, 0)), 0.0, None, 0.0, id="nothing: one is missed, none is false"),
        pytest.param(filled(1, (12, 12, 16, 16)), 0.0, 0.0, 0.0, id="elsewhere: one missed, one false"),
        pytest.param(filled(2, (2, 2, 6, 6)), 0.0, 0.0, 0.0, id="another class: one missed, one false"),
        pytest.param(TRUTH | filled(1, (12, 12, 16, 16)), 0.5, 0.5, 1.0, id="one right and one false"),
        pytest.param(filled(1, (2, 7, 6, 11)), 0.0, 1.0, 1.0, id="beside it within the slack: found without overlap"),
    ],
)
def test_scores_are_counted_by_pixel_and_by_region(
    predicted: np.ndarray, iou: float, precision: float | None, recall: float | None
) -> None:
    tally = Tally(3)
    tally.add(predicted, TRUTH)
    assert tally.iou()[1] == pytest.approx(iou)
    assert (tally.precision(), tally.recall()) == (precision, recall)


def test_scores_add_up_over_pictures() -> None:
    tally = Tally(3)
    tally.add(TRUTH, TRUTH)
    tally.add(np.zeros_like(TRUTH), filled(2, (0, 0, 5, 4)))
    assert tally.iou() == [pytest.approx((384 + 380) / (384 + 400)), 1.0, 0.0]
    score = tally.score(("background", "open", "short"))
    assert (score.precision, score.recall, score.f1) == (1.0, 0.5, 0.6667)
    assert score.miou == pytest.approx((764 / 784 + 1.0) / 3, abs=1e-4)


def test_classes_in_neither_map_do_not_count() -> None:
    assert agreement(TRUTH, TRUTH, 7) == 1.0
    assert agreement(np.zeros_like(TRUTH), np.zeros_like(TRUTH), 7) == 1.0


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="class maps"):
        Tally(3).add(TRUTH, TRUTH[:10])


def test_the_best_class_comes_with_its_softmax() -> None:
    logits = np.log(np.array([0.2, 0.7, 0.1], np.float32))[:, None, None] * np.ones((1, 1, 2), np.float32)
    logits[0, 0, 1] = 5.0
    winner, score = best(logits)
    assert winner.tolist() == [[1, 0]]
    assert score.tolist() == [[round(255 * 0.7), 0]], "background has no score"


def test_faint_pixels_and_small_regions_are_dropped() -> None:
    winner = filled(1, (2, 2, 6, 6)) + filled(2, (10, 10, 12, 12))
    score = np.where(winner > 0, np.uint8(200), np.uint8(0))
    score[2, 2:6] = 100
    final = kept(winner, score, least_score=0.5, least_area_px=5)
    assert np.array_equal(final, filled(1, (3, 2, 6, 6)))


def test_training_pictures_are_the_same_for_the_same_seed_and_many_are_clean() -> None:
    shots = synthesise.Shots(96, aimed_share=0.7)
    first, again = synthesise.training(3, 8, shots), synthesise.training(3, 8, shots)
    clean = 0
    for _ in range(40):
        a, b = next(first), next(again)
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        clean += not a.mask.any()
    assert 5 <= clean <= 35


def test_letterboxing_keeps_the_whole_picture_in_the_middle() -> None:
    sample = Sample("", np.full((30, 60, 3), 200, np.uint8), np.full((30, 60), 4, np.uint8))
    boxed = synthesise.letterboxed(sample, 40)
    assert (boxed.image[10:30] == 200).all()
    assert (boxed.image[:10] == 114).all()
    assert (boxed.image[30:] == 114).all()
    assert np.array_equal(boxed.mask > 0, boxed.image[:, :, 0] == 200)


def test_a_drawn_pair_differs_where_the_faults_are() -> None:
    (sample,) = synthesise.pairs(1, synthesise.Shots(512, binarised_share=1.0), first=5007)
    assert sample.reference is not None
    differ = (sample.image != sample.reference).any(axis=2)
    inside = cv2.erode((sample.mask > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    outside = cv2.dilate((sample.mask > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert inside.any()
    assert differ[inside].mean() > 0.9
    assert differ[outside].mean() < 0.1


def test_a_reference_leaves_the_picture_as_it_is_without_one() -> None:
    board = synthesise.plate(12)
    alone, paired = (
        synthesise.view(board, np.random.default_rng(5), synthesise.Shots(128, paired=paired))
        for paired in (False, True)
    )
    assert np.array_equal(alone.image, paired.image)
    assert np.array_equal(alone.mask, paired.mask)
    assert alone.reference is None


def test_synthesise_writes_pictures_masks_and_a_sheet(tmp_path: Path) -> None:
    assert cli.main(["synthesise", "--count", "2", "--size", "128", "--out", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["0000.png", "0000_mask.png", "0001.png", "0001_mask.png", "sheet.png"]


@pytest.mark.parametrize("command", ["export", "convert", "pack"])
def test_a_step_without_the_one_before_says_which_to_run(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "export" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    more = ["--version", "9", "--out", str(tmp_path / "out")] if command == "pack" else []
    assert cli.main([command, "--work", str(tmp_path), *more]) == 1
    assert "run `python -m modelkit" in capsys.readouterr().err


@pytest.mark.torch
@pytest.mark.parametrize(("name", "inputs"), [("unet", 1), ("unet", 2), ("pair-unet", 2)])
def test_a_network_gives_logits_of_full_size_and_stays_small(name: str, inputs: int) -> None:
    torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
    models = importlib.import_module("modelkit.models")
    net = models.build(name, 7, inputs, 24 if name == "pair-unet" else 16).eval()
    assert sum(p.numel() for p in net.parameters()) < 1_000_000
    with torch.inference_mode():
        assert tuple(net(*(torch.zeros(1, 3, 64, 96) for _ in range(inputs))).shape) == (1, 7, 64, 96)


@pytest.mark.torch
def test_an_unknown_architecture_is_refused_with_those_there_are() -> None:
    pytest.importorskip("torch", reason="the extra modelkit is not installed")
    with pytest.raises(ValueError, match="pair-unet"):
        importlib.import_module("modelkit.models").build("resnet", 7, 1, 16)

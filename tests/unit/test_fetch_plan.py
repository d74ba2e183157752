import json
from typing import Any

import pytest

from agent.core.fetch_plan import (
    MAX_MANIFEST_BYTES,
    golden_ceiling_bytes,
    manifest_wanted,
    parse_manifest,
    plan,
    refuse_above,
)
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target

DIGEST = "f" * 64


def sha(number: int) -> str:
    return f"{number:064x}"


def document(**changes: Any) -> dict[str, Any]:
    """Two targets, two golden frames that share their class map."""

    def variant(target: str, file: str, digest: int) -> dict[str, Any]:
        return {
            "target": target, "runtime": "onnx", "toolkitVersion": "1", "dtype": "int8", "file": file, "bytes": 1000,
            "sha256": sha(digest),
        }  # fmt: skip

    def frame(name: str, digest: int) -> dict[str, Any]:
        return {
            "inputs": [name], "classMap": "golden/map.png", "sha256": {name: sha(digest), "golden/map.png": sha(9)}
        }  # fmt: skip

    return {
        "schema": "rkfleet.manifest/1",
        "name": "probe",
        "version": "1.0.0",
        "createdAt": "2026-01-01T00:00:00Z",
        "classes": [
            {"id": i, "name": f"c{i}", "colour": "#00ff00", "severity": "none"} for i in range(2)
        ],
        "inputs": [{"name": "image", "shapes": [[256, 320], [512, 640]]}],
        "preprocess": [{"op": "letterbox"}],
        "output": "logits",
        "variants": [variant("cpu", "cpu.onnx", 1), variant("rk3588", "rk3588.rknn", 2)],
        "golden": {"frames": [frame("golden/0.png", 3), frame("golden/1.png", 4)], "leastAgreement": 0.9},
        "accuracy": {"dataset": "d", "images": 1, "float32": {"miou": 1.0, "iou": {}}},
        "lineage": {"architecture": "a", "parameters": 1},
        **changes,
    }  # fmt: skip


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(document(**changes))


def with_golden(inputs: list[str], class_map: str, sha256: dict[str, str]) -> dict[str, Any]:
    return {"frames": [{"inputs": inputs, "classMap": class_map, "sha256": sha256}], "leastAgreement": 0.9}


def test_a_board_takes_the_manifest_its_own_variant_and_the_golden_files() -> None:
    chosen = plan(manifest(), DIGEST, Target.RK3588, 777)
    ceiling = 512 * 640 * 4 * 9 // 8
    assert [(file.path, file.sha256, file.bytes, file.max_bytes) for file in chosen.files] == [
        ("manifest.json", DIGEST, 777, 777),
        ("rk3588.rknn", sha(2), 1000, 1000),
        ("golden/0.png", sha(3), None, ceiling),
        ("golden/map.png", sha(9), None, ceiling),
        ("golden/1.png", sha(4), None, ceiling),
    ]
    assert chosen.variant.target is Target.RK3588
    assert chosen.manifest_sha256 == DIGEST
    assert chosen.digests == {DIGEST, sha(2), sha(3), sha(4), sha(9)}
    assert chosen.max_bytes == 1777 + 3 * ceiling


def test_before_the_manifest_is_here_only_its_bound_is_known() -> None:
    first = manifest_wanted(DIGEST)
    assert (first.path, first.bytes, first.max_bytes) == ("manifest.json", None, MAX_MANIFEST_BYTES)
    assert plan(manifest(), DIGEST, Target.CPU).files[0] == first


def test_one_digest_counts_once_and_with_its_largest_size() -> None:
    golden = with_golden(["a.png"], "b.png", {"a.png": sha(1), "b.png": sha(1)})
    huge = document()["variants"][0] | {"bytes": 10 * 2**30}
    chosen = plan(manifest(golden=golden, variants=[huge]), DIGEST, Target.CPU, 777)
    assert chosen.max_bytes == 777 + 10 * 2**30
    with pytest.raises(Permanent) as caught:
        refuse_above(chosen, 2 * 2**30)
    assert caught.value.code is FailureCode.MODEL_INVALID
    refuse_above(chosen, chosen.max_bytes)


def test_a_target_that_the_bundle_does_not_have_is_named() -> None:
    with pytest.raises(Permanent, match="no variant for rk3566, only for cpu, rk3588") as caught:
        plan(manifest(), DIGEST, Target.RK3566)
    assert caught.value.code is FailureCode.MODEL_WRONG_TARGET


@pytest.mark.parametrize(
    ("shapes", "ceiling"),
    [
        ([[8, 8]], 65_536),
        ([[512, 512]], 512 * 512 * 4 * 9 // 8),
        ([[10**9, 10**9]], 32 * 2**20),
        ([[-5, 10**9]], 65_536),
        ([[0, 0]], 65_536),
    ],
)
def test_golden_files_are_bounded_by_the_size_of_the_input(shapes: list[list[int]], ceiling: int) -> None:
    assert golden_ceiling_bytes(manifest(inputs=[{"name": "image", "shapes": shapes}])) == ceiling


def variants_of(file: str) -> dict[str, Any]:
    return {"variants": [document()["variants"][0] | {"file": file}]}


def golden_of(path: str) -> dict[str, Any]:
    return {"golden": with_golden([path], "m.png", {path: sha(3), "m.png": sha(4)})}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(variants_of("manifest.json"), id="the model in the manifest's place"),
        pytest.param(golden_of("manifest.json"), id="a golden frame in the manifest's place"),
        pytest.param(golden_of("cpu.onnx"), id="a golden frame in the model's place"),
        pytest.param(golden_of("cpu.onnx/0.png"), id="the model as a folder"),
        pytest.param(golden_of("manifest.json/0.png"), id="the manifest as a folder"),
        pytest.param(golden_of("m.png/a/b"), id="a golden file as a folder"),
        pytest.param(variants_of("a\nb"), id="a line break"),
        pytest.param(variants_of("a\x1b[2Jb"), id="an escape sequence"),
        pytest.param(variants_of("\u202eknnr.exe"), id="text that turns round"),
        pytest.param(variants_of("ä" * 128), id="a name too long for a disk"),
        pytest.param({"golden": with_golden(["a"], "b", {"a": sha(1)})}, id="a digest is missing"),
    ],
)
def test_paths_that_cannot_be_files_of_one_folder_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as caught:
        plan(manifest(**changes), DIGEST, Target.CPU)
    assert caught.value.code is FailureCode.MODEL_INVALID
    assert caught.value.text.isprintable()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", FailureCode.MODEL_INVALID),
        (b"\xff\xfe", FailureCode.MODEL_INVALID),
        (b"[" * 100_000, FailureCode.MODEL_INVALID),
        (b"[]", FailureCode.MODEL_INVALID),
        (b"null", FailureCode.MODEL_INVALID),
        (b" " * (MAX_MANIFEST_BYTES + 1), FailureCode.MODEL_INVALID),
        (b"9" * 5000, FailureCode.MODEL_INVALID),
        (json.dumps(document(unheard=1)).encode(), FailureCode.MODEL_INVALID),
        (json.dumps(document(preprocess=[])).encode(), FailureCode.MODEL_INVALID),
        *(
            (json.dumps(document(**variants_of(path))).encode(), FailureCode.MODEL_INVALID)
            for path in ("../x", "/etc/x", "a//b", "a/../../b", "a\\b", "a\0b", ".", "", "\ud800")
        ),
        (json.dumps(document(schema="rkfleet.manifest/2", news=[])).encode(), FailureCode.MODEL_TOO_NEW),
        (json.dumps(document(schema="rkfleet.manifest/0")).encode(), FailureCode.MODEL_INVALID),
        (json.dumps(document(schema="rkfleet.manifest/²")).encode(), FailureCode.MODEL_INVALID),
        (json.dumps(document(schema="rkfleet.manifest/" + "9" * 9999)).encode(), FailureCode.MODEL_INVALID),
        (json.dumps(document(schema=["rkfleet.manifest/2"])).encode(), FailureCode.MODEL_INVALID),
    ],
)
def test_what_is_no_manifest_of_ours_is_refused(raw: bytes, code: FailureCode) -> None:
    with pytest.raises(Permanent) as caught:
        parse_manifest(raw)
    assert caught.value.code is code


def test_a_manifest_is_parsed() -> None:
    assert parse_manifest(json.dumps(document()).encode()) == manifest()

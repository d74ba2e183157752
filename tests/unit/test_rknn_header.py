import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.rknn_header import NEWEST_FORMAT, RknnHeader, parse_header, require_target
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target

SECTION = b"\x07" * 40
GOOD = {"target_platform": ["rk3588"], "version": "2.5.0", "network_platform": "ONNX"}
ZOO = Path(__file__).parents[2] / "modelkit" / "zoo"
MAGIC = b"RKNN\0\0\0\0"


def container(
    content: Any = GOOD,
    *,
    magic: bytes = MAGIC,
    version: int = 6,
    section_bytes: int = len(SECTION),
    json_bytes: int | None = None,
    text: bytes | None = None,
) -> bytes:
    text = json.dumps(content).encode() if text is None else text
    prefix = (magic + struct.pack("<QQ", version, section_bytes)).ljust(64, b"\0")
    return prefix + SECTION + struct.pack("<Q", len(text) if json_bytes is None else json_bytes) + text


def test_a_good_file_tells_its_format_platforms_and_toolkit() -> None:
    assert parse_header(container()) == RknnHeader(6, ("rk3588",), "2.5.0")


@pytest.mark.parametrize("version", range(1, NEWEST_FORMAT + 1))
def test_all_formats_up_to_the_newest_known_are_accepted(version: int) -> None:
    assert parse_header(container(version=version)).format_version == version


def test_bytes_behind_the_json_do_not_matter() -> None:
    assert parse_header(container() + b"\0" * 100) == parse_header(container())


@pytest.mark.parametrize("version", [NEWEST_FORMAT + 1, 2**64 - 1])
def test_a_newer_format_is_too_new_whatever_else_the_file_holds(version: int) -> None:
    with pytest.raises(Permanent) as caught:
        parse_header(container(version=version, section_bytes=2**63, text=b"?"))
    assert caught.value.code is FailureCode.MODEL_TOO_NEW


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(b"", id="empty"),
        pytest.param(container()[:63], id="shorter than a header"),
        pytest.param(container()[:64], id="nothing behind the header"),
        pytest.param(container()[:-1], id="one byte short"),
        pytest.param(container(magic=b"RKNN\1\0\0\0"), id="magic not padded with zeros"),
        pytest.param(container(magic=b"RKCE\0\0\0\0"), id="encrypted"),
        pytest.param(container(magic=b"PK\3\4\0\0\0\0"), id="a zip file"),
        pytest.param(container(version=0), id="format 0"),
        pytest.param(container(section_bytes=2**64 - 1), id="section of 2**64 - 1 bytes"),
        pytest.param(container(section_bytes=2**64 - 64), id="section length that wraps around to 0"),
        pytest.param(container(section_bytes=len(SECTION) + 1), id="section one byte too long"),
        pytest.param(container(json_bytes=2**64 - 1), id="JSON of 2**64 - 1 bytes"),
        pytest.param(container(json_bytes=0), id="JSON of no bytes"),
        pytest.param(container(text=b"\xff\xfe\xfa"), id="JSON that is not text"),
        pytest.param(container(text=b"[" * 200_000), id="JSON nested without end"),
        pytest.param(container(text=b'{"target_platform": ' + b"9" * 10_000 + b"}"), id="JSON with a huge number"),
        pytest.param(container(["rk3588"]), id="JSON that is a list"),
        pytest.param(container({}), id="no target_platform"),
        pytest.param(container({"target_platform": []}), id="no platform in the list"),
        pytest.param(container({"target_platform": [1]}), id="a platform that is a number"),
        pytest.param(container({"target_platform": None}), id="target_platform null"),
    ],
)
def test_everything_else_is_an_invalid_model(file: bytes) -> None:
    with pytest.raises(Permanent) as caught:
        parse_header(file)
    assert caught.value.code is FailureCode.MODEL_INVALID


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 7))
def test_no_bytes_do_anything_but_parse_or_raise(tail: bytes, first: int, second: int, version: int) -> None:
    file = MAGIC + struct.pack("<QQ", version, first % 300 if first % 2 else first) + b"\0" * 40 + tail
    for candidate in (file, file + struct.pack("<Q", second) + tail):
        with contextlib.suppress(Permanent):
            assert parse_header(candidate).platforms


@pytest.mark.parametrize(
    ("platforms", "target", "fits"),
    [
        (["rk3588"], Target.RK3588, True),
        (["RK3588"], Target.RK3588, True),
        ("rk3588", Target.RK3588, True),
        (["rk3562", "rk3576"], Target.RK3576, True),
        (["rk3566"], Target.RK3566, True),
        (["rk3566"], Target.RK3568, True),
        (["rk3568"], Target.RK3568, True),
        (["rk3568"], Target.RK3566, True),
        (["rv1126b"], Target.RV1126B, True),
        (["rk3588"], Target.RK3576, False),
        (["rk3588s"], Target.RK3588, False),
        (["rk3566"], Target.RK3562, False),
        (["rk3588"], Target.CPU, False),
    ],
)
def test_a_model_fits_the_chips_it_was_built_for(platforms: Any, target: Target, fits: bool) -> None:
    header = parse_header(container({"target_platform": platforms, "version": "2.5.0"}))
    if fits:
        require_target(header, target)
        return
    with pytest.raises(Permanent) as caught:
        require_target(header, target)
    assert caught.value.code is FailureCode.MODEL_WRONG_TARGET
    assert target.value in caught.value.text


@pytest.mark.parametrize("manifest_path", sorted(ZOO.rglob("manifest.json")), ids=lambda path: path.parent.name)
def test_the_models_of_the_zoo_fit_the_targets_that_their_manifests_name(manifest_path: Path) -> None:
    variants = [v for v in Manifest.model_validate_json(manifest_path.read_bytes()).variants if v.runtime == "rknn"]
    assert variants
    for variant in variants:
        header = parse_header((manifest_path.parent / variant.file).read_bytes())
        require_target(header, variant.target)
        assert header.toolkit.startswith(variant.toolkit_version)


def test_foreign_text_is_cut_and_cleaned_before_it_goes_into_messages() -> None:
    header = parse_header(container({"target_platform": ["rk\n\x1b[31m" + "x" * 1000] * 99, "version": {"a": 1}}))
    assert len(header.platforms) == 16
    assert all(len(name) <= 64 and name.isprintable() for name in header.platforms)
    assert header.toolkit == ""

"""Golden frames from a bundle's folder: what a model is shown, and files that are no golden frames."""

import resource
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.core.bundle import Bundle
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.target import Target
from tests.scenario.bundle import SIZE_PX, make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return read_bundle(make_bundle(tmp_path / "bundle"), Target.CPU)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, channels: int = 1) -> bytes:
    kind = {1: 0, 3: 2}[channels]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def test_frames_come_as_the_model_takes_them(bundle: Bundle) -> None:
    colours = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    colours[:, :, 0] = 200  # red
    cv2.imwrite(str(Path(bundle.folder) / "golden.png"), colours[:, :, ::-1])
    (frame,) = read_golden(bundle)
    (picture,) = frame.inputs
    assert picture.dtype == frame.class_map.dtype == np.uint8
    assert picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, colours)
    assert frame.class_map.shape == (SIZE_PX, SIZE_PX)


def test_a_grey_picture_is_three_times_the_same(bundle: Bundle) -> None:
    grey = np.arange(SIZE_PX * SIZE_PX, dtype=np.uint8).reshape(SIZE_PX, SIZE_PX)
    cv2.imwrite(str(Path(bundle.folder) / "golden.png"), grey)
    (frame,) = read_golden(bundle)
    np.testing.assert_array_equal(frame.inputs[0], np.repeat(grey[:, :, None], 3, axis=2))


def rows(width: int, height: int, value: int = 1) -> bytes:
    """The pixels of a grey picture."""
    return chunk(b"IDAT", zlib.compress((b"\0" + bytes([value]) * width) * height))


@pytest.mark.parametrize("name", ["golden.png", "golden.map.png"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="nothing but the signature"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(100), id="a JPEG"),
        pytest.param(png(30_000, 30_000), id="a bomb"),
        pytest.param(png(2**31 - 1, 2**31 - 1), id="more than any library takes"),
        pytest.param(png(0, 0), id="no pixels"),
        pytest.param(png(SIZE_PX, SIZE_PX * 2, rows(SIZE_PX, SIZE_PX * 2)), id="another size"),
        pytest.param(png(SIZE_PX, SIZE_PX, chunk(b"IDAT", b"no deflate")), id="pixels that cannot be unpacked"),
        pytest.param(bytes(33 * 2**20), id="larger than any golden frame"),
    ],
)
def test_what_is_no_golden_frame_is_refused_before_it_is_unpacked(bundle: Bundle, name: str, content: bytes) -> None:
    (Path(bundle.folder) / name).write_bytes(content)
    with pytest.raises(Permanent) as caught:
        read_golden(bundle)
    assert caught.value.code is FailureCode.MODEL_INVALID
    assert name in caught.value.text


@pytest.mark.parametrize("name", ["golden.png", "golden.map.png"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: (path.unlink(), path.mkdir())], ids=["gone", "a folder"])
def test_a_file_that_is_not_there_is_named(bundle: Bundle, name: str, spoil: Callable[[Path], object]) -> None:
    spoil(Path(bundle.folder) / name)
    with pytest.raises(Permanent) as caught:
        read_golden(bundle)
    assert caught.value.code is FailureCode.MODEL_MISSING
    assert name in caught.value.text


def test_a_picture_and_its_class_map_have_one_size(bundle: Bundle) -> None:
    """A model that takes several sizes may have golden frames of each, but not of two at once."""
    inputs = [each.model_copy(update={"shapes": [*each.shapes, (32, 32)]}) for each in bundle.manifest.inputs]
    two_sizes = replace(bundle, manifest=bundle.manifest.model_copy(update={"inputs": inputs}))
    (Path(bundle.folder) / "golden.map.png").write_bytes(png(32, 32, rows(32, 32)))
    with pytest.raises(Permanent, match="differ in size"):
        read_golden(two_sizes)


def zeros(megabytes: int) -> bytes:
    """Compressed, and never whole in this process."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def test_what_a_picture_carries_beside_its_pixels_is_not_unpacked_into_memory(bundle: Bundle) -> None:
    much = zeros(megabytes=400)
    extras = chunk(b"iCCP", b"x\0\0" + much), chunk(b"zTXt", b"k\0\0" + much), chunk(b"iTXt", b"k\0\1\0\0\0" + much)
    (Path(bundle.folder) / "golden.map.png").write_bytes(png(SIZE_PX, SIZE_PX, *extras, rows(SIZE_PX, SIZE_PX)))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (frame,) = read_golden(bundle)
    assert (frame.class_map == 1).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100_000

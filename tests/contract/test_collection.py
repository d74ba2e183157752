"""Collected pictures on disk: without loss, in pairs, within bounds."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.collection_fs import CollectionLimits, FolderCollection
from agent.core import vision
from agent.core.frame import Layout, Picture, Pixels
from agent.core.job import Held
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

FREE = CollectionLimits(max_bytes=50_000_000, reserve_bytes=0)
RNG = np.random.default_rng(7)
NOISE = Picture(RNG.integers(0, 256, (48, 64, 3), np.uint8), Layout.RGB)
NV12 = Picture(RNG.integers(0, 256, (72, 64), np.uint8), Layout.NV12)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def decoded(content: bytes) -> Pixels:
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


@pytest.mark.parametrize("picture", [NOISE, NV12], ids=["rgb", "nv12"])
def test_a_picture_is_kept_without_loss_beside_what_was_made_of_it(tmp_path: Path, picture: Picture) -> None:
    collection = FolderCollection(tmp_path / "collected", FREE)
    assert collection.begin("job-1") == Held(0, 0)
    size_bytes = collection.save("job-1", "top.1", picture, b"{}")
    assert names(tmp_path / "collected" / "job-1") == ["top.1.json", "top.1.png"]
    assert np.array_equal(decoded(collection.read("job-1", "top.1.png")), vision.to_rgb(picture))
    assert collection.read("job-1", "top.1.json") == b"{}"
    assert collection.begin("job-1") == Held(1, size_bytes)


def test_files_come_in_pairs_the_picture_first_and_can_be_removed(tmp_path: Path) -> None:
    collection = FolderCollection(tmp_path, FREE)
    collection.begin("job-1")
    for name in ("b", "a"):
        collection.save("job-1", name, NOISE, b"{}")
    assert collection.names("job-1") == ["a.png", "a.json", "b.png", "b.json"]
    collection.remove("job-1", "a.png")
    collection.remove("job-1", "a.png")
    assert collection.names("job-1") == ["a.json", "b.png", "b.json"]
    collection.discard("job-1")
    collection.discard("job-1")
    assert names(tmp_path) == []


def test_what_an_earlier_process_did_not_finish_is_removed(tmp_path: Path) -> None:
    collection = FolderCollection(tmp_path, FREE)
    collection.begin("job-1")
    collection.save("job-1", "whole", NOISE, b"{}")
    for name in ("alone.png", "x.png.partial", "whole.json.partial"):
        (tmp_path / "job-1" / name).write_bytes(b"1")
    assert FolderCollection(tmp_path, FREE).begin("job-1").pictures == 1
    assert names(tmp_path / "job-1") == ["whole.json", "whole.png"]


def test_the_bound_is_that_of_all_jobs_and_over_restarts(tmp_path: Path) -> None:
    first = FolderCollection(tmp_path, FREE)
    first.begin("old")
    used = first.save("old", "a", NOISE, b"{}")
    collection = FolderCollection(tmp_path, CollectionLimits(max_bytes=2 * used + 10, reserve_bytes=0))
    collection.begin("new")
    collection.save("new", "a", NOISE, b"{}")
    with pytest.raises(Retryable, match="fetch and delete") as caught:
        collection.save("new", "b", NOISE, b"{}")
    assert caught.value.code is FailureCode.DISK_FULL
    assert names(tmp_path / "new") == ["a.json", "a.png"]


def test_the_disks_reserve_is_left_alone(tmp_path: Path) -> None:
    collection = FolderCollection(tmp_path, CollectionLimits(max_bytes=10**15, reserve_bytes=10**15))
    collection.begin("job-1")
    with pytest.raises(Retryable, match="are kept for results") as caught:
        collection.save("job-1", "a", NOISE, b"{}")
    assert caught.value.code is FailureCode.DISK_FULL
    assert names(tmp_path / "job-1") == []


@pytest.mark.parametrize("which", ["a.png", "a.json"])
def test_a_disk_that_fills_up_leaves_no_half(tmp_path: Path, which: str) -> None:
    collection = FolderCollection(tmp_path, FREE)
    collection.begin("job-1")
    (tmp_path / "job-1" / f"{which}.partial").symlink_to("/dev/full")
    with pytest.raises(Retryable) as caught:
        collection.save("job-1", "a", NOISE, b"{}")
    assert caught.value.code is FailureCode.DISK_FULL
    assert names(tmp_path / "job-1") == []


@pytest.mark.parametrize("job_id", [".", "..", "...."])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(Permanent, match="no folder"):
        FolderCollection(tmp_path / "collected", FREE).discard(job_id)
    assert tmp_path.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_what_is_whole_stays(small_disk: Path) -> None:
    large = Picture(RNG.integers(0, 256, (200, 150, 3), np.uint8), Layout.RGB)
    collection = FolderCollection(small_disk, CollectionLimits(max_bytes=10**9, reserve_bytes=0))
    collection.begin("job-1")
    saving = (collection.save("job-1", str(number), large, b"{}") for number in range(9))
    with pytest.raises(Retryable) as caught:
        list(saving)
    assert caught.value.code is FailureCode.DISK_FULL
    left = names(small_disk / "job-1")
    assert left == sorted(f"{number}.{kind}" for number in range(len(left) // 2) for kind in ("json", "png"))


def test_a_folder_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    collection = FolderCollection(tmp_path, FREE)
    with pytest.raises(Permanent, match="No such file"):
        collection.names("job-1")
    with pytest.raises(Permanent, match="No such file"):
        collection.read("job-1", "a.png")

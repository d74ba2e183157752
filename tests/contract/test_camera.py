"""What every Camera must do: one suite on folder, file, RTSP and drawn pictures, through OpenCV and ffmpeg."""

import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.camera_cv2 import CvCamera, Kind, VideoOptions, kind_of
from agent.adapters.camera_ffmpeg import FfmpegCamera, FfmpegOptions, unpadded
from agent.adapters.camera_folder import FolderCamera, FolderOptions
from agent.adapters.camera_synthetic import SyntheticCamera, SyntheticOptions
from agent.core.backoff import Backoff
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.vision.boards.conveyor import Conveyor
from agent.errors import Permanent, Retryable
from agent.loops.capture import CameraReport, CaptureLoop, Plan
from agent.loops.latest import Slots
from agent.ports import Camera
from schemas.codes import FailureCode

LONG_S = 20.0
SYSTEM_PYTHON = "/usr/bin/python3"
COLOUR = (200, 60, 20)
CORNER = (20, 120, 220)
SIZE, OTHER_SIZE = (320, 240), (480, 360)
LOSSY = 18  # levels, for the colours of a compressed picture

ffmpeg = [pytest.mark.ffmpeg, pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="apt install ffmpeg")]


@cache
def has_rtsp_server() -> bool:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None)"
    check = f"{code}; raise SystemExit(not all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay'))))"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


rtsp = [
    pytest.mark.rtsp,
    pytest.mark.skipif(
        not has_rtsp_server(),
        reason="apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-rtsp gstreamer1.0-plugins-ugly",
    ),
]


def drawn(size_px: tuple[int, int], number: int) -> Pixels:
    """Return RGB of one colour, its top left quarter of another, with a white bar that moves along the bottom."""
    width_px, height_px = size_px
    rgb = np.full((height_px, width_px, 3), COLOUR, np.uint8)
    rgb[: height_px // 2, : width_px // 2] = CORNER
    rgb[-16:, 16 * number : 16 * number + 16] = 255
    return rgb


def write_video(path: Path, size_px: tuple[int, int], count: int = 10, fps: float = 100.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size_px)
    assert writer.isOpened()
    for number in range(count):
        writer.write(cv2.cvtColor(drawn(size_px, number), cv2.COLOR_RGB2BGR))
    writer.release()


def write_folder(path: Path, size_px: tuple[int, int], count: int = 3) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        assert cv2.imwrite(str(path / f"{number:02}.png"), cv2.cvtColor(drawn(size_px, number), cv2.COLOR_RGB2BGR))


def rgb_of(picture: Picture) -> Pixels:
    if picture.layout is Layout.RGB:
        return picture.pixels
    return np.asarray(cv2.cvtColor(picture.pixels, cv2.COLOR_YUV2RGB_NV12), np.uint8)


class Source:
    """What a camera looks at. `quiet` makes the next read block."""

    def camera(self, *, quiet: bool = False) -> Camera:
        raise NotImplementedError

    def appear(self, size_px: tuple[int, int]) -> None:
        raise NotImplementedError

    def vanish(self) -> None:
        raise NotImplementedError

    def fall_silent(self) -> None:
        """For sources that are read as they come."""


@dataclass
class Folder(Source):
    path: Path

    def camera(self, *, quiet: bool = False) -> Camera:
        return FolderCamera(FolderOptions(str(self.path), rate_hz=0.01 if quiet else None, loop=True))

    def appear(self, size_px: tuple[int, int]) -> None:
        write_folder(self.path, size_px)

    def vanish(self) -> None:
        shutil.rmtree(self.path)


@dataclass
class CvFile(Source):
    path: Path

    def camera(self, *, quiet: bool = False) -> Camera:
        return CvCamera(VideoOptions(str(self.path), loop=True, rate_hz=0.01 if quiet else None))

    def appear(self, size_px: tuple[int, int]) -> None:
        write_video(self.path, size_px)

    def vanish(self) -> None:
        self.path.unlink()


@dataclass
class FfmpegFile(Source):
    """Vanishes as a stick that is pulled out: the child stops with an error.

    A picture every ten seconds when quiet, so a test that reads one shows that ffmpeg doesn't hold it back.
    """

    path: Path

    def camera(self, *, quiet: bool = False) -> Camera:
        options = FfmpegOptions(str(self.path), live=False, loop=True, native_rate=quiet, read_timeout_s=LONG_S)
        self.last = FfmpegCamera(replace(options, input_args=("-threads", "1")))
        return self.last

    def appear(self, size_px: tuple[int, int]) -> None:
        write_video(self.path, size_px, fps=0.1)

    def vanish(self) -> None:
        self.path.unlink()
        assert self.last._child is not None
        self.last._child._process.kill()


@dataclass
class RtspServer(Source):
    make: Callable[[str], Camera]
    port: str = "0"
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/camera"

    def camera(self, *, quiet: bool = False) -> Camera:
        return self.make(self.url)

    def appear(self, size_px: tuple[int, int]) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        colour = bytes(COLOUR).hex()
        words = [SYSTEM_PYTHON, str(script), "--port", self.port, "--size", "x".join(map(str, size_px))]
        self.process = subprocess.Popen([*words, "--colour", colour], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], LONG_S)[0], "the RTSP server does not start"
        word, self.port = self.process.stdout.readline().split()
        assert word == "ready"

    def vanish(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def fall_silent(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)


KINDS: dict[str, Callable[[Path], Source]] = {
    "folder": lambda path: Folder(path / "pictures"),
    "cv2-file": lambda path: CvFile(path / "film.avi"),
    "cv2-rtsp": lambda path: RtspServer(lambda url: CvCamera(VideoOptions(url, read_timeout_s=4.0))),
    "ffmpeg-file": lambda path: FfmpegFile(path / "film.avi"),
    "ffmpeg-rtsp": lambda path: RtspServer(lambda url: FfmpegCamera(FfmpegOptions(url, read_timeout_s=4.0))),
}
MARKS = {"cv2-rtsp": rtsp, "ffmpeg-file": ffmpeg, "ffmpeg-rtsp": [*ffmpeg, *rtsp]}


@pytest.fixture(params=[pytest.param(kind, marks=MARKS.get(kind, [])) for kind in KINDS])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    made: Source = KINDS[request.param](tmp_path)
    made.appear(SIZE)
    yield made
    if isinstance(made, RtspServer):
        made.vanish()


@pytest.fixture
def opened(source: Source) -> Iterator[Camera]:
    camera = source.camera()
    camera.open()
    yield camera
    camera.close()


def read_until_error(camera: Camera, deadline_s: float = LONG_S) -> Retryable | Permanent:
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        try:
            camera.read()
        except (Retryable, Permanent) as error:
            return error
    raise AssertionError("the camera still gives pictures")


def test_pictures_have_the_right_size_and_colours(source: Source, opened: Camera) -> None:
    picture = opened.read()
    rgb = rgb_of(picture).astype(int)
    assert (picture.width_px, picture.height_px) == SIZE
    assert rgb.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(np.median(rgb[-100:, -100:], axis=(0, 1)) - COLOUR).max() <= LOSSY
    if not isinstance(source, RtspServer):
        assert np.abs(np.median(rgb[:100, :140], axis=(0, 1)) - CORNER).max() <= LOSSY


def test_a_picture_is_not_written_to_by_the_next(opened: Camera) -> None:
    first = opened.read().pixels
    copy = first.copy()
    later = [opened.read().pixels for _ in range(3)]
    assert np.array_equal(first, copy)
    assert not all(np.array_equal(pixels, copy) for pixels in later)


def test_close_may_be_called_twice_and_the_camera_opens_again(opened: Camera) -> None:
    opened.read()
    opened.close()
    opened.close()
    with pytest.raises(Retryable) as caught:
        opened.read()
    assert caught.value.code is FailureCode.CAMERA_LOST
    opened.open()
    assert opened.read().width_px == SIZE[0]


def test_a_read_before_open_is_refused(source: Source) -> None:
    with pytest.raises(Retryable) as caught:
        source.camera().read()
    assert caught.value.code is FailureCode.CAMERA_LOST


def test_close_from_another_thread_ends_a_blocked_read(source: Source) -> None:
    camera = source.camera(quiet=True)
    camera.open()
    camera.read()
    source.fall_silent()
    begun_s: list[float] = []

    def read() -> float:
        while True:
            begun_s.append(time.monotonic())
            try:
                camera.read()
            except Retryable:
                return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        while not begun_s or time.monotonic() - begun_s[-1] < 0.3:  # what was under way may still come
            time.sleep(0.01)
        closed_s = time.monotonic()
        camera.close()
        assert reading.result(LONG_S) - closed_s < 2.0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda url: CvCamera(VideoOptions(url, open_timeout_s=LONG_S)), id="cv2"),
        pytest.param(lambda url: FfmpegCamera(FfmpegOptions(url, read_timeout_s=LONG_S)), id="ffmpeg", marks=ffmpeg),
    ],
)
def test_close_from_another_thread_ends_a_blocked_open(make: Callable[[str], Camera]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        camera = make(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/camera")
        opening = pool.submit(camera.open)
        peer, _ = silent.accept()  # it has connected, and now waits for an answer
        with peer:
            closed_s = time.monotonic()
            camera.close()
            error = opening.exception(LONG_S)
            assert time.monotonic() - closed_s < 2.0
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.CAMERA_ABSENT


def test_an_absent_source_is_told_in_time(source: Source) -> None:
    camera = source.camera()
    camera.open()
    source.vanish()
    camera.close()
    began_s = time.monotonic()
    with pytest.raises(Retryable) as caught:
        camera.open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT
    assert time.monotonic() - began_s < 10.0


def test_a_lost_source_comes_back_in_another_size(source: Source, opened: Camera) -> None:
    opened.read()
    source.vanish()
    lost = read_until_error(opened)
    assert (type(lost), lost.code) == (Retryable, FailureCode.CAMERA_LOST)
    source.appear(OTHER_SIZE)
    opened.open()
    picture = opened.read()
    assert (picture.width_px, picture.height_px) == OTHER_SIZE


@pytest.mark.parametrize("kind", [pytest.param("cv2", marks=rtsp), pytest.param("ffmpeg", marks=[*ffmpeg, *rtsp])])
def test_a_silent_stream_is_lost_in_time(kind: str) -> None:
    server = RtspServer(
        lambda url: (
            CvCamera(VideoOptions(url, read_timeout_s=1.0))
            if kind == "cv2"
            else FfmpegCamera(FfmpegOptions(url, read_timeout_s=1.0))
        )
    )
    server.appear(SIZE)
    try:
        camera = server.camera()
        camera.open()
        camera.read()
        server.fall_silent()
        lost = read_until_error(camera, 10.0)
        assert lost.code is FailureCode.CAMERA_LOST
    finally:
        server.vanish()


@pytest.mark.parametrize("kind", [pytest.param("cv2-rtsp", marks=rtsp)])
def test_the_capture_loop_takes_a_stream_up_again(kind: str, tmp_path: Path) -> None:
    server = KINDS[kind](tmp_path)
    assert isinstance(server, RtspServer)
    server.appear(SIZE)
    slots: Slots[Frame] = Slots(["top"])
    reports: list[CameraReport] = []
    cleared, stop = threading.Event(), threading.Event()

    def report(one: CameraReport) -> None:
        reports.append(one)
        if one.cleared:
            cleared.set()

    loop = CaptureLoop(("top", server.camera()), slots["top"], report, Plan(backoff=Backoff(0.1, 0.5)))
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        assert slots.take(LONG_S) is not None
        server.vanish()
        server.appear(SIZE)
        assert cleared.wait(LONG_S)
        assert slots.take(LONG_S) is not None
    finally:
        stop.set()
        loop.wake()
        thread.join(LONG_S)
        server.vanish()
    assert not thread.is_alive()
    raised = [alarm.code for one in reports for alarm in one.raised]
    assert raised == [FailureCode.CAMERA_LOST]


# One adapter each


def test_a_folder_gives_its_pictures_in_order_at_every_depth_whatever_their_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path / "b", SIZE, 1)
    write_folder(tmp_path / "a" / "deep", OTHER_SIZE, 2)
    grey = np.full((60, 80), 99, np.uint8)
    assert cv2.imwrite(str(tmp_path / "c_test.JPG"), grey)
    (tmp_path / "notes.txt").write_text("no picture")
    camera = FolderCamera(FolderOptions(str(tmp_path), rate_hz=None))
    camera.open()
    pictures = [camera.read() for _ in range(4)]
    assert [(p.width_px, p.height_px) for p in pictures] == [OTHER_SIZE, OTHER_SIZE, SIZE, (80, 60)]
    assert np.array_equal(pictures[1].pixels, drawn(OTHER_SIZE, 1))
    with pytest.raises(Permanent) as caught:
        camera.read()
    assert caught.value.code is FailureCode.CAMERA_ENDED
    filtered = FolderCamera(FolderOptions(str(tmp_path), pattern="*_test.[jJ][pP][gG]", rate_hz=None))
    filtered.open()
    assert filtered.read().width_px == 80


def test_an_unreadable_picture_is_passed_over_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, SIZE, 2)
    (tmp_path / "00.png").write_bytes((tmp_path / "00.png").read_bytes()[:100])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "dir.jpg").mkdir()
    camera = FolderCamera(FolderOptions(str(tmp_path), rate_hz=None))
    camera.open()
    assert np.array_equal(camera.read().pixels, drawn(SIZE, 1))
    assert read_until_error(camera).code is FailureCode.CAMERA_ENDED
    assert camera.unreadable == 3


def test_a_folder_of_which_nothing_can_be_read_is_lost_and_names_a_file(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    camera = FolderCamera(FolderOptions(str(tmp_path), rate_hz=None, loop=True))
    camera.open()
    error = read_until_error(camera)
    assert error.code is FailureCode.CAMERA_LOST
    assert "broken.png" in error.text


@pytest.mark.parametrize("pattern", ["", "/abs/*", "nothing*"])
def test_a_pattern_that_finds_nothing_is_an_absent_camera(tmp_path: Path, pattern: str) -> None:
    write_folder(tmp_path, SIZE)
    with pytest.raises(Retryable) as caught:
        FolderCamera(FolderOptions(str(tmp_path), pattern=pattern)).open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


@pytest.mark.parametrize(
    ("source", "kind"),
    [("/dev/video0", Kind.DEVICE), ("rtsp://h/x", Kind.STREAM), ("film.mp4", Kind.FILE), ("/a/b.avi", Kind.FILE)],
)
def test_the_kind_is_told_from_the_source(source: str, kind: Kind) -> None:
    assert kind_of(source) is kind


def test_a_file_that_is_not_looped_ends_after_its_last_picture_at_its_own_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "film.avi", SIZE, count=6, fps=25.0)
    camera = CvCamera(VideoOptions(str(tmp_path / "film.avi")))
    camera.open()
    began_s = time.monotonic()
    for _ in range(6):
        camera.read()
    assert time.monotonic() - began_s >= 5 / 25
    assert read_until_error(camera).code is FailureCode.CAMERA_ENDED


def test_a_file_that_is_no_film_is_an_absent_camera(tmp_path: Path) -> None:
    (tmp_path / "film.avi").write_bytes(b"RIFF no film")
    with pytest.raises(Retryable) as caught:
        CvCamera(VideoOptions(str(tmp_path / "film.avi"))).open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


def test_a_device_that_is_not_plugged_in_is_an_absent_camera() -> None:
    with pytest.raises(Retryable) as caught:
        CvCamera(VideoOptions("/dev/video99", size_px=(640, 480), rate_hz=30, fourcc="MJPG")).open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


@pytest.mark.parametrize("fourcc", ["", "MJ", "MJPEG", "\u00e9\u00e9\u00e9\u00e9"])
def test_a_fourcc_that_is_none_is_refused(fourcc: str) -> None:
    with pytest.raises(Permanent) as caught:
        CvCamera(VideoOptions("/dev/video0", fourcc=fourcc))
    assert caught.value.code is FailureCode.CONFIG_INVALID


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: CvCamera(VideoOptions("rtsp://127.0.0.1:9/a\0b", open_timeout_s=2.0)), id="cv2-stream"),
        pytest.param(lambda: CvCamera(VideoOptions("a\0b.avi")), id="cv2-file"),
        pytest.param(lambda: FolderCamera(FolderOptions("a\0b")), id="folder"),
        pytest.param(lambda: FfmpegCamera(FfmpegOptions("a\0b")), id="ffmpeg"),
    ],
)
def test_a_source_with_a_null_byte_is_an_absent_camera(make: Callable[[], Camera]) -> None:
    with pytest.raises((Retryable, Permanent)) as caught:
        make().open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


def test_a_node_that_is_no_video_device_is_an_absent_camera() -> None:
    with pytest.raises(Retryable) as caught:
        CvCamera(VideoOptions("/dev/null")).open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda url: CvCamera(VideoOptions(url)), id="cv2"),
        pytest.param(lambda url: FfmpegCamera(FfmpegOptions(url)), id="ffmpeg", marks=ffmpeg),
    ],
)
def test_an_error_does_not_tell_the_password(make: Callable[[str], Camera]) -> None:
    with pytest.raises(Retryable) as caught:
        make("rtsp://admin:s3cret@127.0.0.1:9/live").open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT
    assert "127.0.0.1:9/live" in caught.value.text
    assert "s3cret" not in caught.value.text


@pytest.mark.parametrize(
    ("stride_px", "stride_rows"),
    [
        pytest.param(6, 4, id="unpadded"),
        pytest.param(16, 4, id="rows padded"),
        pytest.param(6, 8, id="more rows"),
        pytest.param(16, 8, id="both"),
    ],
)
def test_padding_is_taken_out_of_nv12(stride_px: int, stride_rows: int) -> None:
    y = np.arange(24, dtype=np.uint8).reshape(4, 6)
    uv = np.arange(100, 112, dtype=np.uint8).reshape(2, 6)
    padded = np.full((stride_rows * 3 // 2, stride_px), 255, np.uint8)
    padded[:4, :6] = y
    padded[stride_rows : stride_rows + 2, :6] = uv
    assert np.array_equal(unpadded(padded.ravel(), (6, 4), stride_px), np.vstack((y, uv)))


@pytest.mark.ffmpeg
@ffmpeg[1]
class TestFfmpeg:
    """What only the child process has."""

    def options(self, path: Path, size_px: tuple[int, int] = SIZE, *args: str) -> FfmpegOptions:
        write_video(path / "film.avi", size_px)
        return FfmpegOptions(str(path / "film.avi"), live=False, native_rate=False, output_args=args)

    def test_padded_rows_of_a_real_child_are_honoured(self, tmp_path: Path) -> None:
        camera = FfmpegCamera(
            replace(
                self.options(tmp_path, SIZE, "-vf", "pad=384:256:0:0:white"),
                size_px=SIZE,
                stride_px=384,
                stride_rows=256,
            )
        )
        plain = FfmpegCamera(self.options(tmp_path))
        for one in (camera, plain):
            one.open()
        for _ in range(10):
            difference = camera.read().pixels.astype(int) - plain.read().pixels
            assert np.abs(difference).max() <= 2  # the filter makes another conversion of colours necessary
        assert read_until_error(camera).code is FailureCode.CAMERA_ENDED
        plain.close()

    def test_a_change_of_size_in_the_middle_is_noticed(self, tmp_path: Path) -> None:
        for number, size_px in enumerate((SIZE, OTHER_SIZE)):
            encode = ["-c:v", "mpeg2video", "-b:v", "1M", "-f", "mpegts", str(tmp_path / f"{number}.ts")]
            pattern = f"testsrc=size={size_px[0]}x{size_px[1]}:rate=25:duration=4"
            subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", pattern, *encode], check=True)
        film = tmp_path / "film.ts"
        film.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
        camera = FfmpegCamera(FfmpegOptions(str(film), live=False, native_rate=False))
        camera.open()
        error = read_until_error(camera)
        assert (type(error), error.code) == (Retryable, FailureCode.CAMERA_SIZE_CHANGED)
        assert "480x360" in error.text

    def test_a_broken_source_is_absent_and_the_error_says_what_ffmpeg_said(self, tmp_path: Path) -> None:
        (tmp_path / "film.avi").write_bytes(b"no film")
        with pytest.raises(Retryable, match="Invalid data") as caught:
            FfmpegCamera(FfmpegOptions(str(tmp_path / "film.avi"))).open()
        assert caught.value.code is FailureCode.CAMERA_ABSENT

    def test_an_odd_size_is_no_nv12(self, tmp_path: Path) -> None:
        with pytest.raises(Permanent, match="321x240") as caught:
            FfmpegCamera(replace(self.options(tmp_path), size_px=(321, 240))).open()
        assert caught.value.code is FailureCode.CONFIG_INVALID

    def test_the_child_is_gone_after_close(self, tmp_path: Path) -> None:
        camera = FfmpegCamera(replace(self.options(tmp_path), loop=True))
        camera.open()
        assert camera._child is not None
        process = camera._child._process
        camera.close()
        assert process.returncode == -signal.SIGKILL


def test_a_child_that_gives_nothing_and_does_not_listen_is_killed_with_its_own_children(tmp_path: Path) -> None:
    script = tmp_path / "ffmpeg"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\necho thinking >&2\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n")
    script.chmod(0o755)
    camera = FfmpegCamera(FfmpegOptions("x", binary=str(script), open_timeout_s=0.5))
    with pytest.raises(Retryable, match="thinking") as caught:
        camera.open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT
    sleeper = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    deadline_s = time.monotonic() + LONG_S
    while time.monotonic() < deadline_s and sleeper.exists() and sleeper.read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert not sleeper.exists() or sleeper.read_text().split()[2] == "Z"


def test_without_ffmpeg_the_error_says_what_to_install() -> None:
    with pytest.raises(Permanent, match="apt install ffmpeg") as caught:
        FfmpegCamera(FfmpegOptions("x", binary="no-such-ffmpeg")).open()
    assert caught.value.code is FailureCode.CAMERA_ABSENT


def test_drawn_boards_are_those_of_the_conveyor_and_go_on_after_a_reconnect() -> None:
    camera = SyntheticCamera(SyntheticOptions(seed=3, height_px=240, width_px=320, good_share=0.5, rate_hz=None))
    conveyor = Conveyor(3, 240, 320, 0.5)
    camera.open()
    assert np.array_equal(camera.read().pixels, conveyor.frame(0).rgb)
    camera.close()
    camera.close()
    assert read_until_error(camera).code is FailureCode.CAMERA_LOST
    camera.open()
    assert np.array_equal(camera.read().pixels, conveyor.frame(1).rgb)
    assert np.array_equal(camera.truth(1), conveyor.frame(1).mask)


def test_closing_ends_the_wait_for_the_next_drawn_board() -> None:
    camera = SyntheticCamera(SyntheticOptions(height_px=240, width_px=320, rate_hz=0.01))
    camera.open()
    camera.read()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_until_error, camera)
        camera.close()
        assert reading.result(LONG_S).code is FailureCode.CAMERA_LOST

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Settings, parse
from agent.config_from_afar import merged
from agent.errors import Permanent
from schemas.codes import FailureCode

FOLDER = Path("/etc/rkfleet")
OWN = parse(
    {
        "station": {"site": "berlin", "node": "board-1"},
        "broker": {"password": "secret"},
        "model": {"bundle": "bundle"},
        "camera": [
            {"id": "top", "kind": "folder", "source": "pictures", "pattern": "in/*.png"},
            {"id": "film", "kind": "video", "source": "/srv/film.mp4"},
            {"id": "cam", "kind": "ffmpeg", "source": "movie=/srv/a.mp4", "ffmpeg_args": ["-f", "lavfi"]},
        ],
        "recipe": {"strict": {"id": "strict"}},
    },
    FOLDER,
    "agent.toml",
)


def camera(**fields: Any) -> dict[str, Any]:
    return {"camera": [{"id": "side"} | fields]}


@pytest.mark.parametrize(
    ("config", "source"),
    [
        pytest.param(camera(kind="folder", source="pictures/side"), "/etc/rkfleet/pictures/side", id="below a folder"),
        pytest.param(camera(kind="video", source="pictures/a.mp4"), "/etc/rkfleet/pictures/a.mp4", id="file below it"),
        pytest.param(camera(kind="folder", source="pictures", pattern="in/*.png"), "/etc/rkfleet/pictures",
                     id="a pattern that the board has"),
        pytest.param(camera(kind="video", source="/srv/film.mp4"), "/srv/film.mp4", id="a file that the board has"),
        pytest.param(camera(kind="ffmpeg", source="movie=/srv/a.mp4", ffmpeg_args=["-f", "lavfi"]), "movie=/srv/a.mp4",
                     id="arguments that the board has"),
        pytest.param(camera(kind="rtsp", source="rtsp://u:p@10.0.0.7/1"), "rtsp://u:p@10.0.0.7/1", id="a stream"),
        pytest.param(camera(kind="ffmpeg", source="rtsps://cam/1"), "rtsps://cam/1", id="a stream through ffmpeg"),
        pytest.param(camera(kind="v4l2", source="/dev/v4l/by-id/usb-A_B-index0"), "/dev/v4l/by-id/usb-A_B-index0",
                     id="a device"),
        pytest.param(camera(kind="synthetic", width_px=1920, height_px=1080), "", id="drawn"),
    ],
)  # fmt: skip
def test_a_camera_from_afar_is_taken_where_it_reaches_nothing_new(config: dict[str, Any], source: str) -> None:
    settings = merged(OWN, config, FOLDER)
    assert [one.source for one in settings.camera] == [source]
    assert (settings.broker, settings.station, settings.model) == (OWN.broker, OWN.station, OWN.model)
    assert settings.recipe == OWN.recipe


def test_what_is_absent_stays_as_the_board_has_it() -> None:
    settings = merged(OWN, {"telemetry": {"interval_s": 5}, "timezone": "Europe/Berlin", "log_level": "DEBUG"}, FOLDER)
    assert (settings.telemetry.interval_s, settings.timezone, settings.log_level) == (5.0, "Europe/Berlin", "DEBUG")
    assert (settings.camera, settings.storage, settings.recipe) == (OWN.camera, OWN.storage, OWN.recipe)
    assert merged(OWN, {}, FOLDER) == OWN


def test_the_boards_own_cameras_may_come_from_afar_again() -> None:
    listed = [one.model_dump(mode="json") for one in OWN.camera]
    assert merged(OWN, {"camera": listed}, FOLDER) == OWN


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"broker": {"host": "evil"}}, "broker: is set on the board only"),
        ({"station": {}}, "station: is set on the board only"),
        ({"storage": {"data_dir": "/"}}, "storage: is set on the board only"),
        ({"model": {"isolate": False}}, "model: is set on the board only"),
        ({"cameras": []}, "cameras: is no field; there are camera, recipe, timezone, telemetry, log_level"),
        ({"camera": None}, "camera: Input should be a valid tuple"),
        ({"camera": []}, "camera: Tuple should have at least 1 item"),
        ({"camera": [{"id": "a/b", "kind": "synthetic"}]}, "camera.0.id: String should match"),
        ({"camera": [{"id": "a", "kind": "synthetic"}] * 2}, "camera: ids must differ"),
        (camera(kind="synthetic", bogus=1), "camera.0.bogus: Extra inputs are not permitted"),
        (camera(kind="synthetic", trigger={"kind": "continuous", "rate_hz": 0}), "camera.0.trigger.rate_hz: Input"),
        (camera(kind="synthetic", trigger={"kind": "hourly"}), "camera.0.trigger: Input tag 'hourly'"),
        (camera(kind="synthetic", recipe="unknown"), "camera side: there is no [recipe.unknown]"),
        ({"recipe": {"a": {"rules": {"default": {"minScore": 2}}}}}, "recipe.a.rules.default.minScore: Input should"),
        ({"timezone": "../etc/passwd"}, "timezone: '../etc/passwd' is not known"),
        ({"timezone": 5}, "timezone: Input should be a valid string"),
        ({"telemetry": {"interval_s": 0}}, "telemetry.interval_s: Input should be greater"),
        ({"log_level": "LOUD"}, "log_level: Input should be"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(config: dict[str, Any], text: str) -> None:
    with pytest.raises(Permanent) as caught:
        merged(OWN, config, FOLDER)
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert caught.value.text.startswith(text)
    assert "after validation, not 0" not in caught.value.text.partition(";")[2]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"kind": "folder", "source": "/etc"}, "source", id="another folder"),
        pytest.param({"kind": "folder", "source": "/etc/rkfleet/pictures-2"}, "source", id="a name that begins alike"),
        pytest.param({"kind": "folder", "source": "pictures/../.."}, "source", id="up and out"),
        pytest.param({"kind": "folder", "source": "pictures", "pattern": "../*"}, "pattern", id="out by the pattern"),
        pytest.param({"kind": "folder", "source": "pictures", "pattern": ".."}, "pattern", id="up by the pattern"),
        pytest.param({"kind": "folder", "source": "pictures", "pattern": "*" * 200}, "pattern", id="a costly pattern"),
        pytest.param({"kind": "video", "source": "/srv/other.mp4"}, "source", id="beside a file"),
        pytest.param({"kind": "folder", "source": "/srv"}, "source", id="the folder of a file"),
        pytest.param({"kind": "video", "source": "concat:/etc/passwd"}, "source", id="a protocol for a file"),
        pytest.param({"kind": "rtsp", "source": "file:///etc/passwd"}, "source", id="a file for a stream"),
        pytest.param({"kind": "rtsp", "source": "http://10.0.0.1/admin"}, "source", id="the web"),
        pytest.param({"kind": "rtsp", "source": "rtsp://a/b\nc"}, "source", id="a line break"),
        pytest.param({"kind": "v4l2", "source": "/dev/sda"}, "source", id="a disk"),
        pytest.param({"kind": "v4l2", "source": "/dev/v4l/by-id/../../sda"}, "source", id="a disk by detours"),
        pytest.param({"kind": "ffmpeg", "source": "/etc/shadow"}, "source", id="a file through ffmpeg"),
        pytest.param({"kind": "ffmpeg", "source": "movie=/srv/a.mp4"}, "source", id="without the arguments"),
        pytest.param({"kind": "ffmpeg", "source": "movie=/etc/shadow", "ffmpeg_args": ["-f", "lavfi"]}, "ffmpeg_args",
                     id="arguments with another source"),
        pytest.param({"kind": "ffmpeg", "source": "rtsp://a/b", "ffmpeg_args": ["-f", "lavfi"]}, "ffmpeg_args",
                     id="arguments with a stream"),
        pytest.param({"kind": "ffmpeg", "source": "rtsp://a/b", "ffmpeg_output_args": ["/etc/cron.d/x"]},
                     "ffmpeg_output_args", id="another output"),
        pytest.param({"kind": "synthetic", "width_px": 16384, "height_px": 16384}, "", id="all of the memory"),
    ],
)  # fmt: skip
def test_a_camera_from_afar_cannot_reach_what_the_board_does_not(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Permanent) as caught:
        merged(OWN, camera(**fields), FOLDER)
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert caught.value.text.startswith(f"camera.0.{field}: " if field else "camera.0: ")


def test_a_settings_file_that_was_named_by_a_relative_path_is_no_hindrance() -> None:
    document = {"station": {"site": "a", "node": "b"}, "model": {"bundle": "x"}}
    own: Settings = parse(
        document | {"camera": [{"id": "top", "kind": "folder", "source": "in"}]}, Path("../conf"), "f"
    )
    settings = merged(own, {"camera": [{"id": "top", "kind": "folder", "source": "in"}]}, Path("../conf"))
    assert settings == own


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["folder", "video", "rtsp", "v4l2", "ffmpeg", "synthetic"])
SOURCES = st.sampled_from(["pictures/a", "pictures\0", "/", "", "..", "rtsp://a", "/dev/video0"]) | st.text(max_size=8)
CAMERAS = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"]), "kind": KINDS, "source": SOURCES},
    optional={"trigger": VALUES, "roi": VALUES, "pattern": st.text(max_size=4), "ffmpeg_args": VALUES, "seed": VALUES,
              "width_px": VALUES, "read_timeout_s": VALUES, "recipe": st.sampled_from(["strict", "default", "none"])},
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(["camera", "recipe", "timezone", "telemetry", "log_level"]) | st.text(), VALUES)
    | st.fixed_dictionaries({"camera": st.lists(CAMERAS, max_size=3)}, optional={"timezone": st.text(max_size=20)})
)
def test_whatever_comes_is_taken_or_refused_by_the_code_for_it(config: dict[str, Any]) -> None:
    try:
        settings = merged(OWN, config, FOLDER)
    except Permanent as error:
        refused = error.code
        assert refused is FailureCode.CONFIG_INVALID
        return
    mine = {name: getattr(settings, name) for name in ("broker", "station", "model", "storage")}
    assert mine == {name: getattr(OWN, name) for name in mine}

from pathlib import Path

import pytest

from agent.config import load
from agent.errors import Permanent
from schemas.codes import FailureCode

MINIMAL = """\
[station]
site = "berlin"
node = "board-1"
[model]
bundle = "bundle"
[[camera]]
id = "top"
kind = "folder"
source = "pictures"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_a_minimal_file_gets_defaults_and_paths_of_its_folder(tmp_path: Path) -> None:
    settings = load(write(tmp_path, MINIMAL), {})
    assert settings.broker.host == "127.0.0.1"
    assert settings.model.bundle == tmp_path / "bundle"
    assert settings.camera[0].source == str(tmp_path / "pictures")
    assert settings.recipe_of(settings.camera[0]).id == "default"


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("RKFLEET_BROKER__HOST", "10.0.0.5", ("broker", "host"), "10.0.0.5"),
        ("RKFLEET_BROKER__PORT", "8883", ("broker", "port"), 8883),
        ("RKFLEET_MODEL__ISOLATE", "false", ("model", "isolate"), False),
        ("RKFLEET_MODEL__CORES", "[0, 1]", ("model", "cores"), (0, 1)),
        ("RKFLEET_LOG_LEVEL", "DEBUG", ("log_level",), "DEBUG"),
    ],
)
def test_the_environment_goes_before_the_file(
    name: str, value: str, path: tuple[str, ...], expected: object, tmp_path: Path
) -> None:
    found: object = load(write(tmp_path, MINIMAL), {name: value, "RKFLEET_CONFIG": "elsewhere"})
    for part in path:
        found = getattr(found, part)
    assert found == expected


def test_what_is_meant_for_the_operators_commands_is_no_setting_of_the_agent(tmp_path: Path) -> None:
    others = {
        "RKFLEET_SERVE_BROKER__HOST": "10.0.0.5",
        "RKFLEET_SERVER": "http://fleet.example",
        "RKFLEET_TOKEN": "rkf_secret",
        "RKFLEET_KEY_PASSPHRASE": "secret",
        "RKFLEET_MODEL_PYTHON": "python3",
        "RKFLEET_NPU_SOCKET": "/tmp/npu",
    }
    path = write(tmp_path, MINIMAL)
    assert load(path, others) == load(path, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "station: Field required"),
        ("not toml [", "not TOML"),
        (MINIMAL.replace('"berlin"', '"ber/lin"'), "station.site"),
        (MINIMAL.replace("[model]", "[model]\nbundel = 1"), "model.bundel"),
        (MINIMAL.replace('source = "pictures"', ""), "a camera of kind folder needs a source"),
        (MINIMAL.replace('id = "top"', 'id = "top"\nrecipe = "strict"'), "there is no [recipe.strict]"),
        (MINIMAL + MINIMAL[MINIMAL.index("[[camera]]") :], "ids must differ"),
        (MINIMAL + '[camera.trigger]\nkind = "continuous"\nrate_hz = 0\n', "camera.0.trigger.continuous.rate_hz"),
        (MINIMAL + '[camera.trigger]\nkind = "sometimes"\n', "camera.0.trigger"),
        (MINIMAL.replace("[model]", '[broker.tls]\nca = "a"\ncert = "b"\n[model]'), "cert and key come together"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        load(write(tmp_path, text), {})
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert said in caught.value.text
    assert str(tmp_path / "agent.toml") in caught.value.text


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = 1\n" * 400_000], ids=["no text", "huge"])
def test_what_is_no_settings_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    with pytest.raises(Permanent, match=r"not TOML|no settings file"):
        load(path, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="No such file"):
        load(tmp_path / "none.toml", {})

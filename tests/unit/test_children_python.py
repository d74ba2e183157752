"""Which Python runs the children: the agent's own, unless the settings name another."""

import sys
from pathlib import Path

import pytest

from agent.adapters.segmenter_process import Interpreter
from agent.build import interpreter_of
from agent.config import Settings, parse


def settings(folder: Path, **model: object) -> Settings:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": "bundle", **model},
        "camera": [{"id": "top", "kind": "synthetic"}],
    }
    return parse(document, folder, "agent.toml")


def test_without_a_word_it_is_the_agents_own_with_its_search_path(tmp_path: Path) -> None:
    made = interpreter_of(settings(tmp_path))
    assert made == Interpreter()
    assert made.command == (sys.executable,)
    assert all(not entry or entry in made.environment()["PYTHONPATH"] for entry in sys.path)


def test_another_is_named_with_its_arguments_and_where_it_finds_things(tmp_path: Path) -> None:
    made = interpreter_of(
        settings(tmp_path, python=["/opt/npu/bin/python", "-E"], python_path=["site", "/opt/rkfleet"])
    )
    assert made.command == ("/opt/npu/bin/python", "-E")
    assert made.environment()["PYTHONPATH"] == f"{tmp_path / 'site'}:/opt/rkfleet"


@pytest.mark.parametrize("model", [{"python_path": ["x"]}, {"python": ["/usr/bin/python3"]}], ids=["path", "command"])
def test_each_may_be_named_alone(model: dict[str, object], tmp_path: Path) -> None:
    made = interpreter_of(settings(tmp_path, **model))
    assert made.command == tuple(model.get("python", (sys.executable,)))  # type: ignore[arg-type]
    assert made.path == ((str(tmp_path / "x"),) if "python_path" in model else None)

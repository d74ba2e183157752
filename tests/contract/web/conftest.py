"""Worlds for the tests of the API, each over a database of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from fleet.adapters.db import Database, upgrade
from fleet.web.api import ApiSettings
from tests.contract.web.world import Making, World, make_world


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with our tables, to be copied."""
    path = tmp_path_factory.mktemp("web") / "template.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as running:
        yield running


@pytest.fixture
def making(template: Path, tmp_path: Path, portal: BlockingPortal) -> Iterator[Making]:
    made: list[World] = []

    def make(settings: ApiSettings | None = None, **parts: Any) -> World:
        path = tmp_path / f"fleet{len(made)}.db"
        shutil.copy(template, path)
        made.append(make_world(path, portal, settings, **parts))
        return made[-1]

    yield make
    for each in made:
        each.database.close()


@pytest.fixture
def world(making: Making) -> World:
    return making()

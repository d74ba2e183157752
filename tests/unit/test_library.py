"""The library of models on a board whose installed bundle and store are real."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.host_linux import LinuxHost
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.config import parse
from agent.core.update import ModelRef
from agent.errors import AgentError
from agent.library import Library
from schemas.codes import FailureCode
from schemas.target import Target
from schemas.topics import Topics
from tests.scenario.bundle import digest, make_bundle

CAMERA = {"id": "top", "kind": "synthetic"}
OTHER = ModelRef("other", "2", "f" * 64)


class Host(LinuxHost):
    """With so much memory free; None where the machine does not tell."""

    free_bytes: int | None = None

    def memory_free_bytes(self) -> int | None:
        return self.free_bytes


class Shelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "models", Target.CPU, StoreLimits(10_000_000, 0))
        self.host = Host(data_dir=folder, pids=list)

    def settings(self, **fields: Any) -> Any:
        base = {"station": {"site": "a", "node": "b"}, "model": {"bundle": "bundle", "isolate": False}}
        return parse({**base, "camera": [CAMERA], **fields}, self.folder, "agent.toml")

    def library(self) -> Library:
        return Library(self.settings(), Target.CPU, Topics("a", "b"), self.store, self.host)

    def stock(self, bundle: Path) -> ModelRef:
        """Into the store, as a download would."""
        names = ["manifest.json", *(path.name for path in bundle.iterdir() if path.name != "manifest.json")]
        for name in names:
            sha256 = digest(bundle / name)
            partial = self.store.partial(sha256)
            partial.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bundle / name, partial)
            self.store.add(sha256)
        return ModelRef("probe", "2.0.0", digest(bundle / "manifest.json"), generation=4)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    make_bundle(tmp_path / "bundle")
    return Shelf(tmp_path)


def test_the_installed_model_is_that_of_the_settings(shelf: Shelf) -> None:
    library = shelf.library()
    ref = library.installed
    assert (ref.name, ref.version, ref.generation) == ("probe", "1.0.0", 0)
    assert ref.manifest_sha256 == digest(shelf.folder / "bundle" / "manifest.json")
    assert library.open(ref).manifest.version == "1.0.0"


def test_a_board_without_a_usable_bundle_has_a_placeholder_that_never_loads(shelf: Shelf) -> None:
    (shelf.folder / "bundle" / "manifest.json").write_text("{}")
    library = shelf.library()
    assert library.installed.manifest_sha256 == "0" * 64
    with pytest.raises(AgentError):
        library.open(library.installed)


def test_a_model_of_the_store_is_opened_by_its_digest_and_carries_its_generation(shelf: Shelf) -> None:
    library = shelf.library()
    ref = shelf.stock(make_bundle(shelf.folder / "second", "2.0.0"))
    assert library.has(ref)
    loaded = library.load("core-0", ref, library.open(ref))
    try:
        assert (loaded.model.version, loaded.model.generation, loaded.ref) == ("2.0.0", 4, ref)
        assert {camera for camera, _ in loaded.plans} == {"top"}
    finally:
        loaded.segmenter.close()


def test_a_model_that_is_not_in_the_store_is_an_error(shelf: Shelf) -> None:
    library = shelf.library()
    assert not library.has(OTHER)
    with pytest.raises(AgentError) as missing:
        library.open(OTHER)
    assert missing.value.code in {FailureCode.MODEL_MISSING, FailureCode.MODEL_INVALID}


UNFIT = {
    "a rule for a class that the model has not": {
        "camera": [CAMERA | {"recipe": "strict"}],
        "recipe": {"strict": {"rules": {"per_class": {"dent": {"max_count": 1}}}}},
    },
    "an empty region of interest": {"camera": [CAMERA | {"roi": [0, 0, 0, 9]}]},
}


@pytest.mark.parametrize("fields", UNFIT.values(), ids=UNFIT)
def test_settings_that_do_not_fit_the_model_change_nothing(fields: dict[str, Any], shelf: Shelf) -> None:
    library = shelf.library()
    bundle = library.open(library.installed)
    library.load("core-0", library.installed, bundle).segmenter.close()
    before = library.plans(bundle)
    with pytest.raises(AgentError) as refused:
        library.use(shelf.settings(**fields), library.installed)
    assert refused.value.code is FailureCode.CONFIG_INVALID
    assert library.plans(bundle) == before


def test_all_lanes_share_the_plans_of_a_model(shelf: Shelf) -> None:
    """So they agree on a camera's input shape, and keep one copy of its reference."""
    library = shelf.library()
    bundle = library.open(library.installed)
    first, second = (library.load(core, library.installed, bundle) for core in ("core-0", "core-1"))
    for loaded in (first, second):
        loaded.segmenter.close()
    assert first.plans is second.plans


def test_new_settings_give_new_plans(shelf: Shelf) -> None:
    library = shelf.library()
    bundle = library.open(library.installed)
    library.use(shelf.settings(camera=[CAMERA | {"id": "side"}], recipe={"strict": {"id": "s"}}), library.installed)
    plans = library.plans(bundle)
    assert set(plans) == {("side", None), ("side", "default"), ("side", "strict")}
    assert plans["side", "strict"].recipe.id == "s"


def test_a_recipe_for_another_model_is_left_out_where_no_camera_needs_it(shelf: Shelf) -> None:
    library = shelf.library()
    recipe: dict[str, Any] = {"other": {"rules": {"per_class": {"dent": {}}}}, "mine": {}}
    library.use(shelf.settings(recipe=recipe), library.installed)
    assert {name for _, name in library.plans(library.open(library.installed))} == {None, "default", "mine"}


@pytest.mark.parametrize(
    ("needs", "free", "lanes", "fits"),
    [
        (None, 0, 3, True),
        (100, None, 3, True),
        (100, 125, 1, True),
        (100, 124, 1, False),
        (100, 250, 2, True),
        (100, 249, 2, False),
    ],
)
def test_a_fifth_of_the_free_memory_is_left_to_others(
    needs: int | None, free: int | None, lanes: int, fits: bool, shelf: Shelf
) -> None:
    shelf.host.free_bytes = free
    library = shelf.library()
    bundle = library.open(library.installed)
    bundle = replace(bundle, variant=bundle.variant.model_copy(update={"memory_bytes": needs}))
    assert library.has_room(bundle, lanes) is fits

"""Servers and networks as they are: the update waits, goes on where it was, or gives way to a newer one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.codes import FailureCode
from schemas.state import Phase
from tests.contract.file_server import Answer, refused_url
from tests.scenario.update_kit import Hall, running_hall


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with running_hall(tmp_path) as running:
        yield running


def model_of(bundle: Path) -> tuple[str, Answer]:
    return f"/{bundle.name}/cpu.onnx", Answer((bundle / "cpu.onnx").read_bytes(), etag='"1"')


def starts(hall: Hall, path: str) -> list[int]:
    """The first bytes that were asked for."""
    return [each.start for each in list(hall.server.asked) if each.path == path]


def test_a_download_that_was_cut_off_is_tried_again_and_goes_on_where_it_ended(hall: Hall) -> None:
    bundle = hall.large_bundle("2.0.0")
    desired = hall.desired(bundle)
    path, whole = model_of(bundle)
    half = len(whole.body) // 2
    hall.server.script(path, replace(whole, send=half), whole)
    hall.want(desired)
    report = hall.wait_error(1, Phase.DOWNLOADING, FailureCode.DOWNLOAD_FAILED)
    assert report.version == "1.0.0"
    hall.wait_phase(1, Phase.COMMITTED)
    assert starts(hall, path) == [0, half]
    hall.wait_more(5)
    hall.assert_nothing_lost()


def test_a_download_goes_on_where_it_was_when_the_agent_died(hall: Hall) -> None:
    bundle = hall.large_bundle("2.0.0")
    desired = hall.desired(bundle)
    path, whole = model_of(bundle)
    half = len(whole.body) // 2
    hall.server.script(path, replace(whole, send=half, then="stall"), whole)
    hall.want(desired)
    assert hall.server.stalled.wait(30)
    partial = hall.station.folder / "data" / "models" / "partials"
    hall.mes.wait("the half", lambda: any(each.stat().st_size == half for each in partial.iterdir()))
    hall.wait_more(10)
    boot = hall.boot()
    hall.station.kill()
    hall.station.start()
    hall.wait_boot(boot)
    hall.wait_phase(1, Phase.COMMITTED)
    assert starts(hall, path) == [0, half]
    hall.wait_more(5)
    hall.assert_nothing_lost()


@pytest.mark.parametrize("then", ["stall", "drip"])
def test_a_newer_model_does_not_wait_for_a_server_that_does_not_get_on(hall: Hall, then: str) -> None:
    first, second = hall.large_bundle("2.0.0"), hall.large_bundle("3.0.0")
    path, whole = model_of(first)
    desired = hall.desired(first)
    hall.server.script(path, replace(whole, send=1_000, then=then))  # type: ignore[arg-type]  # one of the Literal
    hall.want(desired)
    hall.mes.wait("the download", lambda: bool(starts(hall, path)))
    hall.wait_phase(1, Phase.DOWNLOADING)
    hall.wait_more(10)
    hall.want(hall.desired(second))
    hall.wait_phase(2, Phase.COMMITTED)
    hall.wait_more(5)
    hall.assert_nothing_lost()
    assert {result.model.version for result in hall.in_order()} == {"1.0.0", "3.0.0"}


def test_mirrors_are_asked_in_order(hall: Hall) -> None:
    bundle = hall.large_bundle("2.0.0")
    urls = [refused_url(), f"{hall.server.url}/nothing-here", f"{hall.server.url}/{bundle.name}"]
    hall.want(hall.desired(bundle, urls=urls))
    hall.wait_phase(1, Phase.COMMITTED)
    paths = [each.path for each in hall.server.asked]
    assert paths[:2] == ["/nothing-here/manifest.json", f"/{bundle.name}/manifest.json"]


def test_a_server_that_nobody_runs_is_asked_again_later(hall: Hall) -> None:
    hall.want(hall.desired(hall.large_bundle("2.0.0"), urls=[refused_url()]))
    hall.wait_error(1, Phase.DOWNLOADING, FailureCode.DOWNLOAD_FAILED)
    hall.mes.wait("another attempt", lambda: hall.journal()["attempts"] >= 2)
    hall.wait_more(5)
    assert hall.in_order()[-1].model.version == "1.0.0"
    hall.assert_nothing_lost()

"""Models that must not come to inspect, or not for long: the old one goes on and nobody notices but the report."""

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.codes import FailureCode
from schemas.state import Phase, ProbationPlan, ShadowPlan
from tests.contract.file_server import Answer
from tests.scenario import bad_bundle
from tests.scenario.update_kit import PROBATION, Hall, open_hall, running_hall

ZOO = Path(__file__).parents[2] / "modelkit" / "zoo" / "pcb-unet-1.0.0"
GIB = 2**30
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """One station for all: each test ends with the installed model at work."""
    with running_hall(tmp_path_factory.mktemp("hall")) as running:
        yield running


def assert_the_old_model_goes_on(hall: Hall, seen_before: int, *, flipped: bool = False) -> None:
    """Nothing is lost, nothing has failed, and nothing but the installed model has inspected, or does at the end."""
    hall.wait_more(5)
    hall.assert_nothing_lost()
    since = hall.in_order()[seen_before:]
    if not flipped:
        assert {result.model.version for result in since} == {"1.0.0"}
    assert {result.model.version for result in since[-5:]} == {"1.0.0"}
    report = hall.reported()
    assert report is not None
    assert report.version == "1.0.0"


def cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def flip_a_bit(body: bytes) -> bytes:
    return bytes([*body[:100], body[100] ^ 1, *body[101:]])


@pytest.mark.parametrize(
    ("path", "answer", "code"),
    [
        pytest.param("cpu.onnx", lambda body: Answer(cut(body)), FailureCode.MODEL_DIGEST_MISMATCH, id="truncated"),
        pytest.param("cpu.onnx", lambda body: Answer(b""), FailureCode.MODEL_DIGEST_MISMATCH, id="zero bytes"),
        pytest.param(
            "cpu.onnx", lambda body: Answer(flip_a_bit(body)), FailureCode.MODEL_DIGEST_MISMATCH, id="a bit flipped"
        ),
        pytest.param(
            "cpu.onnx",
            lambda _body: Answer(b"", then="endless", framing="close"),
            FailureCode.MODEL_DIGEST_MISMATCH,
            id="endless data",
        ),
        pytest.param(
            "cpu.onnx", lambda body: Answer(body, announce=10 * GIB), FailureCode.MODEL_DIGEST_MISMATCH, id="10 GB sent"
        ),
        pytest.param("cpu.onnx", lambda _body: Answer(status=404), FailureCode.DOWNLOAD_FAILED, id="no model: 404"),
        pytest.param("manifest.json", lambda _body: Answer(status=404), FailureCode.DOWNLOAD_FAILED, id="nothing: 404"),
        pytest.param(
            "manifest.json",
            lambda _body: Answer(b"{}", then="endless", framing="chunked"),
            FailureCode.MODEL_DIGEST_MISMATCH,
            id="an endless manifest",
        ),
        pytest.param(
            "golden.png", lambda body: Answer(flip_a_bit(body)), FailureCode.MODEL_DIGEST_MISMATCH, id="a golden frame"
        ),
    ],
)
def test_what_is_not_as_the_manifest_says_is_rejected(
    hall: Hall, path: str, answer: Callable[[bytes], Answer], code: FailureCode
) -> None:
    before = len(hall.in_order())
    bundle = hall.bundle("2.0.0")
    desired = hall.desired(bundle)
    hall.server.script(f"/{bundle.name}/{path}", answer((bundle / path).read_bytes()))
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.REJECTED, code)
    assert_the_old_model_goes_on(hall, before)


def renamed(document: dict[str, Any]) -> None:
    document["name"] = "other"


def for_(target: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["variants"][0] |= {"target": target, "runtime": "rknn", "dtype": "int8"}

    return change


def without_digests(document: dict[str, Any]) -> None:
    document["golden"]["frames"][0]["sha256"] = {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(
            lambda d: d["variants"][0].update(bytes=10 * GIB), FailureCode.MODEL_INVALID, id="10 GB announced"
        ),
        pytest.param(
            lambda d: d["variants"][0].update(sha256="0" * 64), FailureCode.MODEL_DIGEST_MISMATCH, id="digest"
        ),
        pytest.param(for_("rk3588"), FailureCode.MODEL_WRONG_TARGET, id="for another SoC alone"),
        pytest.param(lambda d: d.update(schema="rkfleet.manifest/2"), FailureCode.MODEL_TOO_NEW, id="a newer format"),
        pytest.param(lambda d: d.pop("classes"), FailureCode.MODEL_INVALID, id="no classes"),
        pytest.param(without_digests, FailureCode.MODEL_INVALID, id="golden frames without digests"),
    ],
)
def test_a_manifest_that_does_not_fit_is_rejected(hall: Hall, change: Change, code: FailureCode) -> None:
    before = len(hall.in_order())
    desired = hall.desired(bad_bundle.edit(hall.bundle("2.0.0"), change))
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.REJECTED, code)
    assert_the_old_model_goes_on(hall, before)


@pytest.mark.parametrize("said", [{"name": "other"}, {"version": "3.0.0"}])
def test_a_manifest_of_another_model_than_was_named_is_rejected(hall: Hall, said: dict[str, str]) -> None:
    before = len(hall.in_order())
    desired = hall.desired(hall.bundle("2.0.0"), **said)
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.REJECTED, FailureCode.MODEL_INVALID)
    assert_the_old_model_goes_on(hall, before)


needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="only there a division ends a process")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(bad_bundle.crashing_at_load, FailureCode.NPU_CRASHED, id="crashes at load", marks=needs_x86),
        pytest.param(bad_bundle.disagreeing, FailureCode.SELF_TEST_FAILED, id="golden frames disagree"),
        pytest.param(bad_bundle.bomb, FailureCode.MODEL_INVALID, id="a golden frame of 30,000 x 30,000 px"),
    ],
)
def test_a_model_that_is_not_fit_never_inspects(hall: Hall, spoil: Callable[[Path], Path], code: FailureCode) -> None:
    before = len(hall.in_order())
    desired = hall.desired(spoil(hall.bundle("2.0.0")))
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.REJECTED, code)
    assert_the_old_model_goes_on(hall, before)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(bad_bundle.crashing, id="crashes", marks=needs_x86),
        pytest.param(bad_bundle.faulty, id="gives no answer"),
        pytest.param(bad_bundle.seeing_defects_everywhere, id="sees defects everywhere"),
    ],
)
def test_the_shadow_finds_out_before_a_result_is_made(hall: Hall, spoil: Callable[[Path], Path]) -> None:
    before = len(hall.in_order())
    bundle = spoil(hall.bundle("2.0.0"))
    desired = hall.desired(bundle, shadow=ShadowPlan(frames=20, least_agreement=0.9))
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.REJECTED, FailureCode.SHADOW_DISAGREED)
    assert_the_old_model_goes_on(hall, before)


def very_slow(bundle: Path) -> Path:
    return bad_bundle.slow(bundle, rounds=300)


@dataclass(frozen=True)
class Trial:
    spoil: Callable[[Path], Path]
    plan: ProbationPlan = PROBATION


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(Trial(bad_bundle.crashing), id="crashes", marks=needs_x86),
        pytest.param(Trial(bad_bundle.hanging), id="hangs"),
        pytest.param(Trial(bad_bundle.faulty), id="gives no answer"),
        pytest.param(Trial(very_slow, ProbationPlan(frames=30, max_p95_ratio=1.5, max_ng_drift=1.0)), id="is slow"),
        pytest.param(
            Trial(bad_bundle.seeing_defects_everywhere, ProbationPlan(frames=60, max_p95_ratio=1e3, max_ng_drift=0.05)),
            id="sees defects everywhere",
        ),
    ],
)
def test_a_model_that_misbehaves_in_probation_is_rolled_back_and_no_result_has_failed(hall: Hall, trial: Trial) -> None:
    before = len(hall.in_order())
    desired = hall.desired(trial.spoil(hall.bundle("2.0.0")), probation=trial.plan)
    hall.want(desired)
    hall.wait_error(desired.generation, Phase.ROLLED_BACK, FailureCode.PROBATION_FAILED)
    assert_the_old_model_goes_on(hall, before, flipped=True)
    versions = [result.model.version for result in hall.in_order()[before:]]
    back = len(versions) - 1 - versions[::-1].index("2.0.0") if "2.0.0" in versions else 0
    assert "2.0.0" not in versions[back + 1 :]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A station that takes itself for an RK3588. Nothing runs there, but what is verified is verified."""
    with open_hall(tmp_path_factory.mktemp("board")) as hall:
        station = hall.station
        shutil.rmtree(station.folder / "bundle")
        shutil.copytree(ZOO, station.folder / "bundle")
        station.config.write_text(station.config.read_text().replace('target = "cpu"', 'target = "rk3588"'))
        with station:
            yield hall


def of_format_7(file: Path) -> None:
    raw = file.read_bytes()
    file.write_bytes(raw[:8] + (7).to_bytes(8, "little") + raw[16:])


def of_another_soc(file: Path) -> None:
    shutil.copy(ZOO / "model-rk3576.rknn", file)


def of_half_its_size(file: Path) -> None:
    """With digests that fit: the publisher's mistake, not the server's."""
    file.write_bytes(file.read_bytes()[:5_000])


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (of_format_7, FailureCode.MODEL_TOO_NEW),
        (of_another_soc, FailureCode.MODEL_WRONG_TARGET),
        (of_half_its_size, FailureCode.MODEL_INVALID),
    ],
)
def test_the_header_is_read_before_the_npu_sees_the_file(
    board: Hall, spoil: Callable[[Path], None], code: FailureCode
) -> None:
    bundle = board.folder / spoil.__name__
    shutil.copytree(ZOO, bundle)
    bad_bundle.edit(bundle, lambda document: document.update(version="9.0.0"))
    spoil(bundle / "model-rk3588.rknn")
    desired = board.desired(bad_bundle.seal(bundle))
    board.want(desired)
    report = board.wait_error(desired.generation, Phase.REJECTED, code)
    assert report.version == "1.0.0"
    assert [each.phase for each in report.phases][-2:] == [Phase.VERIFYING, Phase.REJECTED]

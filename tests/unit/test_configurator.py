"""The configurator on a board whose journal, clock and alarms the test holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings, parse
from agent.core import desired_config as machine
from agent.core.alarms import AlarmState, SourceState
from agent.core.command import Refusal
from agent.core.outgoing import Outgoing
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.configurator import Configurator, ConfiguratorParts
from schemas.alarm import AlarmSeverity
from schemas.codes import FailureCode
from schemas.state import DesiredConfig, Phase, ReportedConfig
from schemas.topics import Topics

AT = datetime(2026, 1, 1, tzinfo=UTC)
FOLDER = Path("/etc/rkfleet")
FULL = Retryable(FailureCode.DISK_FULL, "no space left")
TOP = {"id": "top", "kind": "synthetic"}
SIDE = {"id": "side", "kind": "synthetic"}


def settings(**fields: Any) -> Settings:
    document = {"station": {"site": "a", "node": "b"}, "model": {"bundle": "x"}, "camera": [TOP]}
    return parse(document | fields, FOLDER, "agent.toml")


OWN = settings()


class MemoryJournal:
    def __init__(self) -> None:
        self.content: bytes | None = None
        self.garbled: AgentError | None = None
        self.failure: AgentError | None = None

    def read(self) -> bytes | None:
        if self.garbled is not None:
            raise self.garbled
        return self.content

    def write(self, content: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.content = content


class MemoryDesk:
    def __init__(self) -> None:
        self.alarms: dict[tuple[FailureCode, str], str] = {}
        self.events: list[tuple[FailureCode, str]] = []

    def set(self, code: FailureCode, source: str, text: str) -> None:
        self.alarms[code, source] = text

    def clear(self, code: FailureCode, source: str) -> None:
        self.alarms.pop((code, source), None)

    def happened(self, code: FailureCode, source: str, text: str) -> None:
        self.events.append((code, text))

    def active(self) -> tuple[AlarmState, ...]:
        return tuple(
            AlarmState(code, AT, (SourceState(source, text, AlarmSeverity.CRITICAL, AT),))
            for (code, source), text in self.alarms.items()
        )


@dataclass
class Board:
    """`restart` is a new process on the same disk. `refuses` says what is wrong with settings, where anything is."""

    own: Settings = OWN
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    refuses: Callable[[Settings], AgentError | None] = lambda _settings: None
    at_s: float = 1000.0
    published: list[Outgoing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart(clean=True)

    def restart(self, *, clean: bool) -> None:
        self.desk = MemoryDesk()
        self.applied: list[Settings] = []
        self.configurator = Configurator(
            ConfiguratorParts(
                journal=self.journal,
                own=self.own,
                folder=FOLDER,
                apply=self.apply,
                desk=self.desk,
                publish=self.published.append,
                topics=Topics("a", "b"),
                now=lambda: AT,
                monotonic=lambda: self.at_s,
            )
        )
        self.runs = self.configurator.boot(is_clean=clean)

    def apply(self, wanted: Settings) -> None:
        self.applied.append(wanted)
        self.assert_journalled()
        error = self.refuses(wanted)
        if error is not None:
            raise error
        self.runs = wanted

    def assert_journalled(self) -> None:
        if self.journal.failure is None:
            assert self.journal.content is not None
            assert machine.load(self.journal.content) == self.configurator.state

    def want(self, generation: int, **config: Any) -> None:
        self.configurator.wanted(DesiredConfig(generation=generation, config=config))

    def passes(self, seconds: float, *inspected: str) -> None:
        """Time, with results of these cameras."""
        self.configurator.tick()
        self.at_s += seconds
        for camera in inspected:
            self.configurator.inspected(camera, self.at_s)
        self.configurator.tick()

    def report(self) -> ReportedConfig:
        message = self.configurator.report()
        assert message.retain
        assert message.topic == "rkfleet/v1/a/b/reported/config"
        return ReportedConfig.model_validate_json(message.payload)

    def ends(self) -> tuple[Phase, int, list[str]]:
        report = self.report()
        return report.phase, report.observed_generation, [camera.id for camera in self.runs.camera]


@pytest.fixture
def board() -> Board:
    return Board()


def test_a_board_that_was_told_nothing_runs_its_own_settings(board: Board) -> None:
    assert board.runs == OWN
    assert board.ends() == (Phase.COMMITTED, 0, ["top"])
    assert board.report().sha256 is None


def test_a_healthy_configuration_is_kept_over_restarts(board: Board) -> None:
    board.want(1, camera=[TOP, SIDE])
    assert board.ends() == (Phase.PROBATION, 1, ["top", "side"])
    board.passes(31.0, "side")
    assert board.ends() == (Phase.COMMITTED, 1, ["top", "side"])
    assert board.report().sha256 == machine.fingerprint({"camera": [TOP, SIDE]})
    for clean in (True, False):
        board.restart(clean=clean)
        assert board.ends() == (Phase.COMMITTED, 1, ["top", "side"])
        assert board.applied == []
    assert [ReportedConfig.model_validate_json(message.payload).phase for message in board.published][:3] == [
        Phase.COMMITTED,
        Phase.PROBATION,
        Phase.PROBATION,
    ]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"broker": {"host": "evil"}}, "broker: is set on the board only"),
        ({"camera": [{"id": "top", "kind": "folder", "source": "/etc"}]}, "camera.0.source: "),
        ({"camera": [TOP | {"recipe": "none"}]}, "camera top: there is no [recipe.none]"),
    ],
)
def test_an_invalid_configuration_never_runs_and_its_field_is_named(
    board: Board, config: dict[str, Any], text: str
) -> None:
    board.want(4, **config)
    assert board.ends() == (Phase.REJECTED, 4, ["top"])
    assert board.applied == []
    error = board.report().last_error
    assert error is not None
    assert error.code is FailureCode.CONFIG_INVALID
    assert error.text.startswith(text)
    assert (error.code, error.text) in board.desk.events


def test_one_that_does_not_fit_the_model_is_rejected_and_taken_back(board: Board) -> None:
    wrong = Permanent(FailureCode.CONFIG_INVALID, "recipe a has rules for scratch")
    board.refuses = lambda wanted: wrong if "a" in wanted.recipe else None
    board.want(1, recipe={"a": {}})
    assert board.ends() == (Phase.REJECTED, 1, ["top"])
    assert [one == OWN for one in board.applied] == [False, True]
    board.want(1, recipe={"a": {}})
    assert len(board.applied) == 2


@pytest.mark.parametrize(
    ("code", "source", "named"),
    [
        (FailureCode.CAMERA_ABSENT, "side", "camera side: camera-absent: not there"),
        (FailureCode.CAMERA_LOST, "top", "camera top: camera-lost: not there"),
        (FailureCode.CONFIG_INVALID, "core-0", "core-0: config-invalid: not there"),
        (FailureCode.NPU_HUNG, "core-0", "core-0: npu-hung: not there"),
    ],
)
def test_a_new_alarm_rolls_back_at_once(board: Board, code: FailureCode, source: str, named: str) -> None:
    board.want(1, camera=[TOP, SIDE])
    board.configurator.alarmed(code, source, "not there")
    assert board.ends() == (Phase.ROLLED_BACK, 1, ["top"])
    error = board.report().last_error
    assert error is not None
    assert (error.code, error.text) == (FailureCode.PROBATION_FAILED, named)
    board.passes(1000.0, "top", "side")
    board.want(1, camera=[TOP, SIDE])
    assert board.ends() == (Phase.ROLLED_BACK, 1, ["top"])


@pytest.mark.parametrize(
    ("code", "source"),
    [
        pytest.param(FailureCode.CAMERA_LOST, "top", id="its source ailed before"),
        pytest.param(FailureCode.BROKER_UNREACHABLE, "broker", id="not a matter of configuration"),
        pytest.param(FailureCode.SPOOL_FULL, "spool", id="not a matter of configuration either"),
    ],
)
def test_other_alarms_do_not_end_a_probation(board: Board, code: FailureCode, source: str) -> None:
    board.desk.set(FailureCode.CAMERA_ABSENT, "top", "long gone")
    board.want(1, camera=[TOP, SIDE])
    board.configurator.alarmed(code, source)
    board.passes(31.0, "side")
    assert board.ends() == (Phase.COMMITTED, 1, ["top", "side"])


def interval(every_s: float) -> dict[str, Any]:
    return SIDE | {"trigger": {"kind": "interval", "every_s": every_s, "within_s": 2.0}}


@pytest.mark.parametrize(
    ("config", "inspected", "phase"),
    [
        pytest.param({"camera": [TOP, SIDE]}, [], Phase.ROLLED_BACK, id="a new camera shows nothing"),
        pytest.param({"camera": [TOP, SIDE]}, ["top"], Phase.ROLLED_BACK, id="only another one shows something"),
        pytest.param({"camera": [TOP, SIDE]}, ["side"], Phase.COMMITTED, id="a new camera shows something"),
        pytest.param({"camera": [TOP | {"seed": 2}]}, [], Phase.ROLLED_BACK, id="a changed camera shows nothing"),
        pytest.param({"camera": [TOP, interval(28.0)]}, [], Phase.ROLLED_BACK, id="due within the probation"),
        pytest.param({"camera": [TOP, interval(29.0)]}, [], Phase.COMMITTED, id="due later"),
        pytest.param({"camera": [SIDE | {"trigger": {"kind": "cron", "expression": "0 6 * * *"}}]}, [],
                     Phase.COMMITTED, id="due some day"),
        pytest.param({"telemetry": {"interval_s": 3}}, [], Phase.COMMITTED, id="no camera changes"),
        pytest.param({"recipe": {"a": {}}, "camera": [TOP | {"recipe": "a"}]}, [], Phase.ROLLED_BACK, id="its recipe"),
    ],
)  # fmt: skip
def test_cameras_must_show_that_they_work(
    board: Board, config: dict[str, Any], inspected: list[str], phase: Phase
) -> None:
    board.want(1, **config)
    board.passes(29.0, *inspected)
    assert board.report().phase is Phase.PROBATION
    board.passes(2.0)
    assert board.report().phase is phase
    if phase is Phase.ROLLED_BACK:
        error = board.report().last_error
        assert error is not None
        assert error.text.startswith("camera ")
        assert error.text.endswith(": no result within 30 s")


def test_a_picture_from_before_the_change_proves_nothing(board: Board) -> None:
    board.want(1, camera=[TOP | {"seed": 2}])
    board.configurator.inspected("top", board.at_s - 0.1)
    board.passes(31.0)
    assert board.report().phase is Phase.ROLLED_BACK


def test_a_newer_one_supersedes_a_probation_by_way_of_the_old(board: Board) -> None:
    board.want(1, camera=[TOP, SIDE])
    board.want(2, timezone="Europe/Berlin")
    assert [[camera.id for camera in one.camera] for one in board.applied] == [["top", "side"], ["top"], ["top"]]
    assert board.runs.timezone == "Europe/Berlin"
    board.passes(31.0)
    assert board.ends() == (Phase.COMMITTED, 2, ["top"])


def test_stale_and_equal_generations_change_nothing(board: Board) -> None:
    board.want(5, timezone="Asia/Tokyo")
    board.passes(31.0)
    board.want(5, timezone="Asia/Tokyo")
    assert board.desk.events == []
    board.want(4, timezone="UTC")
    board.want(5, timezone="UTC")
    assert [code for code, _ in board.desk.events] == [FailureCode.STALE_GENERATION] * 2
    assert board.ends()[:2] == (Phase.COMMITTED, 5)
    assert board.runs.timezone == "Asia/Tokyo"


def test_what_cannot_be_read_is_told_and_changes_nothing(board: Board) -> None:
    board.want(1, timezone="Asia/Tokyo")
    state = board.configurator.state
    board.configurator.wanted(Refusal(FailureCode.MESSAGE_MALFORMED, "not JSON"))
    assert board.configurator.state == state
    error = board.report().last_error
    assert error is not None
    assert error.text == "not JSON"
    board.want(2)
    assert board.report().last_error is None


def test_a_probation_ends_with_a_crash_and_goes_on_after_a_stop(board: Board) -> None:
    board.want(1, camera=[TOP, SIDE])
    board.restart(clean=True)
    assert board.ends() == (Phase.PROBATION, 1, ["top", "side"])
    board.configurator.alarmed(FailureCode.CAMERA_ABSENT, "top")  # who knows how it was before
    board.passes(31.0)
    assert board.report().phase is Phase.PROBATION  # the model has time to load
    board.passes(30.0, "side")
    assert board.ends() == (Phase.COMMITTED, 1, ["top", "side"])
    board.want(2, camera=[SIDE])
    board.restart(clean=False)
    assert board.ends() == (Phase.ROLLED_BACK, 2, ["top", "side"])
    assert board.desk.events[-1][0] is FailureCode.PROBATION_FAILED


@pytest.mark.parametrize(("settled_s", "left"), [(500.0, ["top"]), (601.0, ["side"])])
def test_a_crash_loop_goes_back_to_what_is_proved(board: Board, settled_s: float, left: list[str]) -> None:
    board.want(1, camera=[SIDE])
    board.passes(31.0, "side")
    board.passes(settled_s)
    for _ in range(2):
        board.restart(clean=False)
        assert board.runs.camera[0].id == "side"
    board.restart(clean=False)
    assert [camera.id for camera in board.runs.camera] == left


def test_a_committed_configuration_that_no_longer_fits_the_boards_own_file_is_left(board: Board) -> None:
    board.own = settings(recipe={"a": {}})
    board.restart(clean=True)
    board.want(1, camera=[TOP | {"recipe": "a"}])
    board.passes(31.0, "top")
    board.own = OWN
    board.restart(clean=True)
    assert board.runs == OWN
    assert board.ends() == (Phase.ROLLED_BACK, 1, ["top"])
    error = board.report().last_error
    assert error is not None
    assert "there is no [recipe.a]" in error.text


@pytest.mark.parametrize("content", [b"", b"null", b"\xff", None])
def test_a_garbled_journal_is_told_of_and_the_board_runs_its_own_settings(board: Board, content: bytes | None) -> None:
    board.journal.content = content
    board.journal.garbled = Permanent(FailureCode.INTERNAL, "both copies") if content is None else None
    board.restart(clean=False)
    assert board.runs == OWN
    assert board.desk.events[0][0] is FailureCode.JOURNAL_CORRUPT
    board.want(1, timezone="Asia/Tokyo")
    assert board.report().phase is Phase.PROBATION


def test_nothing_runs_before_it_is_journalled(board: Board) -> None:
    board.journal.failure = FULL
    board.want(2, timezone="Asia/Tokyo")
    board.want(1, timezone="UTC")
    assert board.ends()[:2] == (Phase.COMMITTED, 0)
    assert board.applied == []
    assert (FailureCode.DISK_FULL, "config-journal") in board.desk.alarms
    board.journal.failure = None
    board.configurator.tick()
    assert board.ends()[:2] == (Phase.PROBATION, 2)
    assert board.desk.alarms == {}
    board.journal.failure = FULL
    board.passes(31.0)
    assert board.report().phase is Phase.PROBATION
    board.journal.failure = None
    board.configurator.tick()
    assert board.report().phase is Phase.COMMITTED


def test_a_full_disk_does_not_hold_up_a_way_back(board: Board) -> None:
    board.want(1, camera=[TOP, SIDE])
    board.journal.failure = FULL
    board.configurator.alarmed(FailureCode.CAMERA_ABSENT, "side")
    assert board.ends() == (Phase.ROLLED_BACK, 1, ["top"])
    board.journal.failure = None
    board.configurator.tick()
    board.assert_journalled()


def test_a_disk_that_is_full_at_the_start_holds_a_candidate_back_until_it_is_not(board: Board) -> None:
    verifying, _ = machine.step(machine.Configuration(), machine.Desired(DesiredConfig(generation=1, config={})))
    board.journal.content = machine.dump(verifying)
    board.restart(clean=True)
    assert board.report().phase is Phase.PROBATION
    board.journal.content = machine.dump(verifying)
    board.journal.failure = FULL
    board.restart(clean=False)
    assert board.report().phase is Phase.VERIFYING
    board.journal.failure = None
    board.configurator.tick()
    assert board.report().phase is Phase.PROBATION


def test_a_way_back_that_is_refused_is_tried_again(board: Board) -> None:
    wrong = Permanent(FailureCode.CONFIG_INVALID, "the model has changed meanwhile")
    board.want(1, camera=[TOP, SIDE])
    board.refuses = lambda _wanted: wrong
    board.configurator.alarmed(FailureCode.CAMERA_ABSENT, "side")
    assert (FailureCode.CONFIG_INVALID, "config") in board.desk.alarms
    assert [camera.id for camera in board.configurator.settings.camera] == ["top", "side"]
    board.refuses = lambda _wanted: None
    board.passes(6.0)
    assert board.runs == OWN == board.configurator.settings
    assert board.desk.alarms == {}

"""`rkfleet results` against the real application, and its files of each format."""

import csv
import io
import json
import signal
import stat
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fleet.cli import results_filter
from fleet.cli.client import moment
from fleet.cli.results_columns import COLUMNS, EVALUATIONS
from fleet.cli.results_export import Format, write_file
from fleet.errors import Permanent
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.result import Fault
from tests.contract.asgi_server import serving
from tests.unit.cli_kit import BOARDS, EVIL, World, ingest, world
from tests.unit.fleet_board import result
from tests.unit.test_cli_rollout import line_with, start

OK = {"result_evaluation": Evaluation.OK, "defects": []}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Ten results of board 1 (of lot L-1 the first four), five good ones of board 2, one fault of board 3."""
    with world(tmp_path_factory.mktemp("world")) as made:
        ingest(made, *range(1, 5), lot_id="L-1", part_id="=1+1")
        ingest(made, *range(5, 11), lot_id="L-2")
        ingest(made, *range(1, 6), key=BOARDS[1], **OK)
        fault = Fault(code=FailureCode.CAMERA_LOST, text=EVIL)
        ingest(made, 1, key=BOARDS[2], fault=fault, result_evaluation=Evaluation.UNDEFINED, defects=[])
        yield made


def document(number: int = 1, **changes: Any) -> dict[str, Any]:
    return dict(json.loads(result(number, **changes).to_json()))


def test_the_words_for_evaluations_are_those_of_the_wire() -> None:
    assert {each.value: each.name for each in Evaluation} == EVALUATIONS
    assert {each.value for each in results_filter.Evaluation} == {each.name for each in Evaluation}


def test_the_last_results_are_told_one_a_line(fleet: World) -> None:
    lines = fleet.text("results", "tail", "--no-follow", "-n", "3").splitlines()
    assert len(lines) == 3
    assert "plant1/board-002 top  OK" in lines[0]
    assert "UNDEFINED" in lines[2]
    assert "camera-lost: \\x1b[31mred\\x1b]0;title\\x07 [bold]x[/bold] :smile: \\u202e" in lines[2]
    assert len(fleet.text("results", "tail", "--no-follow", "-n", "0")) == 0


def test_scripts_get_a_document_a_line(fleet: World) -> None:
    ended = fleet.run("results", "tail", "--no-follow", "-n", "100", "--lot", "L-1", "--json")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [each["result"]["sequenceNumber"] for each in rows] == [1, 2, 3, 4]
    assert ended.stdout.isascii()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ([], 16),
        (["--lot", "L-2"], 6),
        (["--node", "board-002", "--evaluation", "OK"], 5),
        (["--part", "=1+1"], 4),
        (["--class", "short"], 10),
        (["--class", "bridge"], 0),
        (["--line", "line-3", "--camera", "top", "--site", "plant1"], 16),
        (["--since", "2026-03-06T12:00:05Z", "--node", "board-001"], 6),
        (["--until", "2026-03-06T12:00:05Z", "--node", "board-001"], 4),
        (["--since", "1h"], 0),
    ],
)
def test_the_same_options_choose_for_the_server_and_for_the_live_view(
    fleet: World, tmp_path: Path, words: list[str], count: int
) -> None:
    file = tmp_path / "found.jsonl"
    assert fleet.read("results", "export", str(file), *words)["results"] == count
    found = {json.loads(line)["resultId"] for line in file.read_text().splitlines()}
    every = fleet.run("results", "tail", "--no-follow", "-n", "100", "--json").stdout.splitlines()
    which: results_filter.Which = dict(zip((name[2:] for name in words[::2]), words[1::2], strict=True))
    which |= {name: moment(which.get(name), datetime.now(UTC)) for name in ("since", "until")}
    ours = {each["resultId"] for line in every if results_filter.matches(each := json.loads(line)["result"], which)}
    assert ours == found


@pytest.mark.parametrize("words", [["--since", "soon"], ["--until", "2026-99-01"], ["--since", "999999d"]])
def test_a_time_that_is_none_is_a_wrong_command_line(fleet: World, words: list[str]) -> None:
    ended = fleet.run("results", "tail", "--no-follow", *words)
    assert ended.exit_code == 2
    assert "is no time" in ended.stderr


def test_new_results_are_told_as_they_come(fleet: World) -> None:
    process = start(fleet, "results", "tail", "-n", "1", "--lot", "L-9", "--json")
    try:
        ingest(fleet, 101, lot_id="L-8")
        ingest(fleet, 102, lot_id="L-9")
        assert json.loads(line_with(process, "L-9"))["result"]["sequenceNumber"] == 102
        ingest(fleet, 103, lot_id="L-9")
        assert json.loads(line_with(process, "L-9"))["result"]["sequenceNumber"] == 103
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


def test_counts_are_by_what_is_asked(fleet: World) -> None:
    shares = {each["key"]: each for each in fleet.read("results", "stats", "--by", "node")["shares"]}
    assert (shares["plant1/board-002"]["ok"], shares["plant1/board-003"]["faults"]) == (5, 1)
    assert {each["key"] for each in fleet.read("results", "stats", "--by", "class", "--lot", "L-1")["shares"]} == {
        "short"
    }
    line = next(row for row in fleet.text("results", "stats", "--by", "lot").splitlines() if "L-1" in row)
    assert line.split() == ["L-1", "4", "0", "4", "0", "0", "4", "100.00"]
    assert "2026-03-06 12:00" in fleet.text("results", "stats", "--by", "hour")
    assert "2026-03-06 " in fleet.text("results", "stats", "--by", "day")


def test_a_csv_file_has_a_row_a_result_and_no_formula(fleet: World, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    assert "results in" in fleet.text("results", "export", str(file), FORCE_COLOR="1")
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert list(rows[0]) == [column.name for column in COLUMNS]
    assert rows[0]["partId"] == "'=1+1"
    assert rows[0]["classes"] == "short"
    fault = next(row for row in rows if row["faultCode"])
    assert "\x1b" not in fault["faultText"]
    assert fault["evaluation"] == "UNDEFINED"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("  =x", "'  =x"),
        ("\t=x", "'\\t=x"),
        ("\r=x", "'\\r=x"),
        ("\uff1dx", "'\uff1dx"),
        ("SN-1", "SN-1"),
        ('a,"b"', 'a,"b"'),
        ("two\nlines", "two\\nlines"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_cell_is_text_and_never_a_formula(tmp_path: Path, text: str, cell: str) -> None:
    made = {**document(), "partId": text}
    made["summary"]["maxScore"] = -0.5
    file = tmp_path / "one.csv"
    assert write_file(file, Format.CSV, [made]) == 1
    with file.open(newline="") as opened:
        row = next(csv.DictReader(opened))
    assert (row["partId"], row["maxScore"], row["isSimulated"]) == (cell, "-0.5", "false")


def test_a_parquet_file_has_types_and_defects(fleet: World, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    count = fleet.read("results", "export", str(file), "--node", "board-001", "--until", "2026-03-06T12:00:11Z")[
        "results"
    ]
    table = pq.read_table(file)
    assert table.num_rows == count == 10
    assert str(table.schema.field("creationTime").type) == "timestamp[ms, tz=UTC]"
    first = table.to_pylist()[0]
    example = document()["defects"][0]
    assert first["defects"][0]["className"] == "short"
    assert first["defects"][0]["x"] == example["bbox"]["x"]
    assert first["sequenceNumber"] == 1


@pytest.mark.parametrize(
    "bad",
    [{"creationTime": "soon"}, {"sequenceNumber": "many"}, {"defects": [{"score": []}]}, {"sequenceNumber": 2**70}],
)
def test_a_result_that_is_none_ends_a_parquet_file_with_a_reason(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match="not as its schema says"):
        write_file(tmp_path / "bad.parquet", Format.PARQUET, [document(), {**document(2), **bad}])
    assert list(tmp_path.iterdir()) == []


def test_halves_of_surrogate_pairs_do_not_stop_an_export(tmp_path: Path) -> None:
    for form in Format:
        assert write_file(tmp_path / f"a.{form}", form, [{**document(), "partId": "\ud800"}]) == 1


def test_stdout_takes_text_formats(fleet: World) -> None:
    lines = fleet.text("results", "export", "-", "--lot", "L-1").splitlines()
    assert [json.loads(line)["sequenceNumber"] for line in lines] == [1, 2, 3, 4]
    assert len(fleet.text("results", "export", "-", "--lot", "L-1", "--format", "csv").splitlines()) == 5


@pytest.mark.parametrize(
    "words", [["out.xlsx"], ["-", "--json"], ["-", "--format", "parquet"], ["out", "--format", "word"], ["out"]]
)
def test_a_format_that_cannot_be_is_a_wrong_command_line(fleet: World, words: list[str]) -> None:
    assert fleet.run("results", "export", *words).exit_code == 2


@pytest.mark.parametrize("form", list(Format))
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, form: Format) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield document()
        raise KeyboardInterrupt

    old, none = tmp_path / "old", tmp_path / "none"
    old.write_text("precious")
    for file in (old, none):
        with pytest.raises(KeyboardInterrupt):
            write_file(file, form, breaks())
    assert old.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [old]
    assert write_file(old, form, [document()]) == 1
    assert old.read_bytes() != b"precious"
    assert list(tmp_path.iterdir()) == [old]
    none.touch()
    assert stat.S_IMODE(old.stat().st_mode) == stat.S_IMODE(none.stat().st_mode)


def test_what_is_no_file_is_left_alone(fleet: World, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for target in (tmp_path / "folder.csv", tmp_path / "nowhere" / "a.csv"):
        ended = fleet.run("results", "export", str(target))
        assert ended.exit_code == 1
        assert str(target.name) in ended.stderr
    with pytest.raises(Permanent, match="no file"):
        write_file(Path("/dev/null"), Format.CSV, [])
    assert Path("/dev/null").is_char_device()


def test_a_server_that_breaks_off_leaves_no_file(fleet: World, tmp_path: Path) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def export(_: Request) -> StreamingResponse:
        async def half() -> Any:
            yield result(1).to_json() + b"\n"
            raise OSError("the server dies")

        return StreamingResponse(half())

    with serving(Starlette(routes=[Route("/api/v1/results/export", export)])) as web:
        ended = fleet.run("results", "export", str(tmp_path / "a.csv"), RKFLEET_SERVER=web.url)
    assert ended.exit_code == 5
    assert "no whole answer" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", list(Format))
def test_memory_does_not_grow_with_the_number_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    monkeypatch.setattr("fleet.cli.results_parquet.ROW_GROUP", 100)
    one = document()
    write_file(tmp_path / "warm", form, [one])

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        assert write_file(tmp_path / "out", form, (dict(one) for _ in range(count))) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(2000) < peak_bytes(200) + 200_000

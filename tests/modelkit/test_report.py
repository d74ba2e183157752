"""Reports, contact sheets and plots of figures that are made up here; the HTML is read back as a browser would."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from modelkit.bundle_eval import Verdicts
from modelkit.confusion import Figures, Ledger
from modelkit.data import DataError
from modelkit.deeppcb_eval import BoxScore
from modelkit.report import box_table, table
from modelkit.report.document import BOARD, FLOAT, INT8, Document, Run, flat
from modelkit.report.worst import Row, sheet

NAMES = ("background", "open", "short")
BOXES = BoxScore(0.9, 0.8, 0.8471, 0.75, {"open": (3, 4, 5), "short": (1, 1, 1)})
VOID = {"meta", "img", "link", "br"}


def figures(predicted_class: int = 1) -> Figures:
    ledger = Ledger(NAMES)
    truth = np.zeros((16, 16), np.uint8)
    truth[2:6, 2:6] = 1
    predicted = np.where(truth > 0, predicted_class, 0).astype(np.uint8)
    ledger.add("good", truth, np.full_like(truth, 250), truth)
    ledger.add("<script>alert(1)</script>", predicted, np.full_like(truth, 200), truth)
    return ledger.figures()


def document(name: str = "mine", size_bytes: int = 500_000) -> Document:
    runs = {
        FLOAT: Run(figures(), 1, 0, BOXES, Verdicts(2, 1, 4, 1, 0), 12.5),
        INT8: Run(figures(2), 1, 1, BOXES, Verdicts(2, 1, 4, 1, 0)),
    }
    sizes = {"rk3588": size_bytes, "cpu": 2_000_000}
    return Document(
        name, "1.0.0", "made up", 1234, sizes, runs, dict(zip(NAMES, ("#000000", "#ff0000", "#00ff00"), strict=True))
    )


def test_a_document_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    document().write(tmp_path / "evaluation.json")
    assert Document.read(tmp_path / "evaluation.json") == document()


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "other/1"}', "[" * 2000])
def test_what_is_no_document_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"evaluation\.json is no evaluation"):
        Document.read(path)


def test_figures_have_the_names_that_gates_use() -> None:
    found = flat(document())
    assert found["float32.miou"] == 1.0
    assert found["int8.iou.open"] == pytest.approx(0.5)
    assert found["loss.miou"] == pytest.approx(1.0 - found["int8.miou"])
    assert found["loss.boxes.f1"] == 0.0
    assert (found["float32.escapes"], found["float32.overkill"]) == (0.5, 0.25)
    assert (found["parameters"], found["bytes.rk3588"]) == (1234, 500_000)
    assert not any(name.startswith(BOARD) for name in found)
    assert "float32.iou.short" not in found, "what no picture shows has no figure"


def test_tables_have_a_column_a_run() -> None:
    assert "| F-score | 0.8471 |" in box_table({"int8": BOXES})
    assert "| open | 3 / 4 / 5 |" in box_table({"int8": BOXES})
    assert table.__doc__


class _Page(HTMLParser):
    """Checks that tags are closed in turn, and collects what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [str(value) for name, value in attrs if name in {"src", "href"}]
        assert tag != "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def rendered(tmp_path: Path, **more: object) -> _Page:
    pytest.importorskip("jinja2", reason="the extra modelkit is not installed")
    pytest.importorskip("matplotlib", reason="the extra modelkit is not installed")
    from modelkit.report.html import Report, write

    write(Report(document(), **more), tmp_path / "report.html")  # type: ignore[arg-type]
    page = _Page()
    page.feed((tmp_path / "report.html").read_text())
    assert page.open == []
    return page


def png_of(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture)


def test_a_report_is_one_file_with_its_pictures(tmp_path: Path) -> None:
    nothing, all_of_it = np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)
    odd = Row("<b>odd</b>", np.zeros((8, 8, 3), np.uint8), nothing, all_of_it)
    worst = sheet([odd], ["#000000", "#ff0000"])
    page = rendered(
        tmp_path,
        worst=worst,
        compared=[document("older", 900_000)],
        facts=[("architecture", "<i>unet</i>")],
        checks=[("int8.miou is 0.4, at least 0.9 is asked: it misses by 0.5", False), ("parameters", True)],
    )
    pictures = [png_of(uri) for uri in page.loaded]
    assert len(pictures) == 4
    assert all(min(picture.shape[:2]) > 100 for picture in pictures)
    assert "<i>unet</i>" in page.texts, "what others wrote is shown, and not taken for HTML"
    assert "int8.miou is 0.4, at least 0.9 is asked: it misses by 0.5" in page.texts
    assert "84.7%" in page.texts


def test_without_others_and_pictures_these_parts_are_left_out(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert len(page.loaded) == 2
    assert not {"Gates", "Accuracy against size and latency", "The model"} & set(page.texts)


def test_the_sheet_shows_picture_truth_and_model_in_their_colours() -> None:
    truth, predicted = np.zeros((100, 200), np.uint8), np.zeros((50, 100), np.uint8)
    truth[20:60, 20:60] = 1
    predicted[30:40, 60:80] = 2
    image = np.full((100, 200, 3), 40, np.uint8)
    png = sheet([Row("x", image, truth, predicted)] * 3, ["#000000", "#ff0000", "#00ff00"], columns=2)
    page = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert page is not None
    red, green = ((page == colour).all(axis=2) for colour in ((255, 0, 0), (0, 255, 0)))
    assert red.any()
    assert green.any()
    assert np.argwhere(red)[:, 1].min() < np.argwhere(green)[:, 1].min()
    half = page.shape[1] // 2
    assert (page[page.shape[0] // 2 :, half:] == 255).all(), "the place of the fourth is empty"


def test_a_defect_of_one_pixel_is_still_seen_in_a_small_picture() -> None:
    truth = np.zeros((2000, 2000), np.uint8)
    truth[1000:1004, 1000:1004] = 1
    image = np.zeros((2000, 2000, 3), np.uint8)
    png = sheet([Row("x", image, truth, truth)], ["#000000", "#ff0000"])
    page = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert page is not None
    assert ((page == (255, 0, 0)).all(axis=2)).sum() >= 10


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture to show"):
        sheet([], ["#000000"])

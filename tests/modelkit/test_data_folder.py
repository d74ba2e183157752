"""A folder of pictures and label maps, and what it says when something in it is wrong."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from modelkit.data import DataError, read_all
from modelkit.data.deeppcb import Pair
from modelkit.data.folder import Folder
from modelkit.data.split import Split, held_out

IDS = np.zeros((20, 30), np.uint8)
IDS[2:6, 3:9] = 1
IDS[10:15, 20:28] = 2
IMAGE = np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)
BY_NUMBER, BY_VALUE, BY_COLOUR = (
    "background\nscratch\ndent\n",
    "background 0\nscratch 128\ndent 255\n",
    "background #000000\nscratch #ff0000\ndent #00ff80\n",
)


def coloured(ids: np.ndarray) -> np.ndarray:
    rgb = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 128]], np.uint8)[ids]
    return np.ascontiguousarray(rgb[:, :, ::-1])


MAPS: dict[str, tuple[str, np.ndarray]] = {
    "by line": (BY_NUMBER, IDS),
    "by line, grey saved as colour": (BY_NUMBER, np.dstack([IDS] * 3)),
    "by line, 16 bits": (BY_NUMBER, IDS.astype(np.uint16)),
    "by value": (BY_VALUE, np.array([0, 128, 255], np.uint8)[IDS]),
    "by value above 255": ("a 0\nb 300\nc 65535\n", np.array([0, 300, 65535], np.uint16)[IDS]),
    "by colour": (BY_COLOUR, coloured(IDS)),
    "by colour, with alpha": (BY_COLOUR, np.dstack([coloured(IDS), np.full(IDS.shape, 255, np.uint8)])),
    "by colour, 16 bits": (BY_COLOUR, coloured(IDS).astype(np.uint16) * 257),
}


def a_set(folder: Path, names: tuple[str, ...] = ("b", "a"), table: str = BY_NUMBER, mask: np.ndarray = IDS) -> Path:
    (folder / "classes.txt").write_text(table)
    for name in names:
        for part, picture, ending in (("images", IMAGE, ".bmp"), ("masks", mask, ".png")):
            path = folder / part / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    return folder


@pytest.mark.parametrize("form", MAPS)
def test_label_maps_are_read_by_line_value_or_colour(tmp_path: Path, form: str) -> None:
    table, mask = MAPS[form]
    sample = Folder(a_set(tmp_path, ("a",), table, mask)).read("a")
    assert np.array_equal(sample.mask, IDS)
    assert np.array_equal(sample.image, IMAGE[:, :, ::-1])
    assert sample.reference is None


def test_pictures_are_in_order_and_may_lie_in_folders_below(tmp_path: Path) -> None:
    data = Folder(a_set(tmp_path, ("lot2/x", "b", "lot1/x")))
    assert data.classes == ("background", "scratch", "dent")
    assert data.ids == ("b", "lot1_x", "lot2_x")
    assert [sample.id for sample in read_all(data)] == list(data.ids)


def test_references_come_with_the_pictures_where_there_are_any(tmp_path: Path) -> None:
    a_set(tmp_path, ("a",))
    (tmp_path / "references").mkdir()
    cv2.imwrite(str(tmp_path / "references" / "a.png"), IMAGE // 2)
    reference = Folder(tmp_path).read("a").reference
    assert reference is not None
    assert np.array_equal(reference, IMAGE[:, :, ::-1] // 2)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "names 0 classes"),
        ("background\n", "names 1 classes"),
        ("background\na b c\n", "class 2.*NAME #RRGGBB"),
        ("background\na #12345\n", "class 2"),
        ("background #000000\na\n", "some classes only"),
        ("a\na\n", "a name twice"),
        ("background 1\na\n", "value or colour twice"),
        ("background #00ff00\na #00FF00\n", "value or colour twice"),
        ("background\na 70000\n", "below 65536"),
        ("\xff\xfe", "not a table"),
    ],
)
def test_a_table_that_says_nothing_or_two_things_is_refused(tmp_path: Path, table: str, words: str) -> None:
    a_set(tmp_path)
    (tmp_path / "classes.txt").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError, match=rf"classes\.txt.*{words}"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("table", "mask", "words"),
    [
        pytest.param(BY_NUMBER, IDS * 100, r"value 100 at x 3, y 2 \(64 px.*add it there", id="a value"),
        pytest.param(BY_NUMBER, IDS.astype(np.uint16) * 900, r"value 900", id="a value of 16 bits"),
        pytest.param(BY_COLOUR, coloured(IDS) // 2, r"colour #7f0000 at x 3, y 2", id="a colour"),
        pytest.param(BY_NUMBER, coloured(IDS), r"in colour.*add the classes' colours", id="colours without a table"),
        pytest.param(BY_NUMBER, IDS[:10], r"30x10 px and its picture of 30x20 px", id="another size"),
        pytest.param(BY_NUMBER, IDS.T.copy(), r"20x30 px", id="another shape"),
    ],
)
def test_a_label_map_that_does_not_fit_is_named(tmp_path: Path, table: str, mask: np.ndarray, words: str) -> None:
    data = Folder(a_set(tmp_path, ("good_or_bad",), table, mask))
    with pytest.raises(DataError, match=rf"good_or_bad\.png.*{words}"):
        data.read("good_or_bad")


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("content", [b"", b"no picture", None, "half"])
def test_broken_files_are_named(tmp_path: Path, part: str, content: bytes | str | None) -> None:
    data = Folder(a_set(tmp_path, ("a",)))
    (path,) = (tmp_path / part).iterdir()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200] if content == "half" else str(content).encode())
    with pytest.raises(DataError, match=rf"{path.name}.*(replace|cannot be read)"):
        data.read("a")


def test_a_jpeg_that_is_cut_short_is_not_filled_with_grey(tmp_path: Path) -> None:
    a_set(tmp_path, ("a",))
    (tmp_path / "images" / "a.bmp").unlink()
    whole = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    path = tmp_path / "images" / "a.jpg"
    path.write_bytes(whole)
    assert Folder(tmp_path).read("a").image.shape == IMAGE.shape
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"a\.jpg is cut short"):
        Folder(tmp_path).read("a")


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("images", "images is not there"),
        ("masks", "masks is not there"),
        ("images/a.bmp", r"masks/a\.png has no picture"),
        ("masks/a.png", r"images/a\.bmp has nothing of its name"),
        ("images/*", "holds no picture"),
        ("classes.txt", "classes.txt is not a table"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, lost: str, words: str) -> None:
    a_set(tmp_path)
    if lost in {"images", "masks"}:
        (tmp_path / lost).rename(tmp_path / "elsewhere")
    else:
        for path in list(tmp_path.glob(lost)):
            path.unlink()
    with pytest.raises(DataError, match=words):
        Folder(tmp_path)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(a_set(tmp_path) / "images" / "a.png"), IMAGE)
    with pytest.raises(DataError, match="one name"):
        Folder(tmp_path)


def test_the_held_out_part_is_fixed_by_the_names_alone(tmp_path: Path) -> None:
    whole = Folder(a_set(tmp_path, tuple(f"p{number}" for number in range(40))))
    train, unseen = Split(whole, "train"), Split(whole, "validation")
    assert sorted((*train.ids, *unseen.ids)) == sorted(whole.ids)
    assert Split(whole, "all").ids == whole.ids
    assert all(held_out(name) for name in unseen.ids)
    assert train.classes == whole.classes
    assert np.array_equal(unseen.read(unseen.ids[0]).mask, IDS)
    assert held_out("20085000") is Pair("g", "20085000", "", "").held_out is False
    assert len(Split(whole, "validation", share=0.5).ids) > len(unseen.ids)


def test_a_part_that_holds_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation part.*add samples"):
        Split(Folder(a_set(tmp_path, ("a",))), "validation", share=0.0)

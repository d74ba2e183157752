"""What compression cost, as JSON, as a table, and in the manifest."""

from pathlib import Path

import pytest

from modelkit.lineage import Change, Figures, manifest_lineage, read, table, write

BEFORE, AFTER = Figures(2_000_000, 8_000_000, 0.91, 0.95), Figures(500_000, 2_000_000, 0.9, None, 0.89)
CHANGES = [
    Change("distil", BEFORE, BEFORE, 12.25, {"parent": "unet-resnet50, width 64", "temperature": 2.0}),
    Change("prune", BEFORE, AFTER, 3.0, {"parent": "unet, width 150", "round_to": 8}),
    Change("qat", AFTER, AFTER, 4.0),
]


def test_changes_are_the_same_after_a_trip_through_a_file(tmp_path: Path) -> None:
    write(CHANGES, tmp_path / "changes.json")
    assert read(tmp_path / "changes.json") == CHANGES
    assert [each.name for each in tmp_path.iterdir()] == ["changes.json"]
    assert read(tmp_path / "absent.json") == []


@pytest.mark.parametrize("content", ["", "{}", '[{"step": "melt"}]'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "changes.json").write_text(content)
    with pytest.raises(ValueError, match="holds no list of changes"):
        read(tmp_path / "changes.json")


def test_int8_is_filled_in_when_it_is_measured() -> None:
    change = CHANGES[1].with_int8((0.8, None), (0.79, 0.7))
    assert (change.parent.int8_miou, change.child.int8_miou, change.child.int8_f1) == (0.8, 0.79, 0.7)
    assert CHANGES[1].with_int8(None, (0.79, 0.7)).parent == BEFORE


def test_the_manifest_tells_teacher_parent_and_quantisation() -> None:
    lineage = manifest_lineage("unet, width 8", 500_000, {"steps": 10}, CHANGES)
    assert lineage.teacher == "unet-resnet50, width 64"
    assert lineage.pruned_from == "unet, width 150"
    assert lineage.quantisation == "qat"
    assert lineage.training["steps"] == 10
    assert lineage.training["prune.round_to"] == 8
    assert lineage.training["prune.miouAfter"] == 0.9
    assert manifest_lineage("unet, width 8", 500_000, {}, []).quantisation == "ptq"


def test_the_table_shows_before_and_after() -> None:
    row = table(CHANGES).splitlines()[3]
    assert "2,000,000 -> 500,000" in row
    assert "8 M -> 2 M" in row
    assert "0.910 -> 0.900" in row
    assert "0.950 -> -" in row
    assert "- -> 0.890" in row

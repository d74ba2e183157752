"""The engine on tiny steps: order, skipping, resuming, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from modelkit.pipeline.code import closure, code_digest
from modelkit.pipeline.engine import Ran, Step, Task, WorkBusy, order, run
from modelkit.pipeline.stamp import STAMP, Stamp

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


@dataclass
class Heard:
    """What the engine told of each step."""

    why: dict[str, list[str]] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)

    def began(self, step: str, number: int, of: int, why: Sequence[str], *, resumed: bool) -> None:
        self.why[step] = list(why)
        self.resumed += [step] if resumed else []

    def skipped(self, step: str, number: int, of: int) -> None:
        self.why[step] = ["skipped"]

    def ended(self, step: str, took_s: float) -> None:
        assert took_s >= 0


def writes(text: str) -> Callable[[Task], None]:
    def write(task: Task) -> None:
        (task.folder / "out.txt").write_text(text)

    return write


def joins(task: Task) -> None:
    texts = [(folder / "out.txt").read_text() for folder in task.inputs.values()]
    (task.folder / "out.txt").write_text("+".join(texts))


def chain(first: str = "a") -> list[Step]:
    return [
        Step("third", joins, needs=("first", "second")),
        Step("first", writes(first), parameters={"text": first}),
        Step("second", joins, needs=("first",)),
    ]


def built(steps: list[Step], work: Path) -> tuple[Ran, Heard]:
    heard = Heard()
    return run(steps, work, heard), heard


def test_steps_run_behind_what_they_need(tmp_path: Path) -> None:
    ran, _ = built(chain(), tmp_path)
    assert ran.made == ("first", "second", "third")
    assert (tmp_path / "third" / "out.txt").read_text() == "a+a"


def test_what_is_up_to_date_is_skipped(tmp_path: Path) -> None:
    built(chain(), tmp_path)
    ran, heard = built(chain(), tmp_path)
    assert (ran.made, ran.skipped) == ((), ("first", "second", "third"))
    assert heard.why["third"] == ["skipped"]


def test_another_parameter_runs_the_step_and_what_depends_on_it(tmp_path: Path) -> None:
    built(chain(), tmp_path)
    ran, heard = built(chain("b"), tmp_path)
    assert ran.made == ("first", "second", "third")
    assert heard.why["first"] == ["its parameters changed"]
    assert heard.why["third"] == ["what first made changed", "what second made changed"]


def test_a_step_that_makes_the_same_again_ends_the_work(tmp_path: Path) -> None:
    built(chain(), tmp_path)
    steps = [replace(step, parameters="other") if step.name == "first" else step for step in chain()]
    ran, _ = built(steps, tmp_path)
    assert ran.made == ("first",), "its content is the same, so nothing behind it needs to be made"


def test_a_new_step_behind_runs_alone(tmp_path: Path) -> None:
    built(chain(), tmp_path)
    ran, _ = built([*chain(), Step("fourth", joins, needs=("third",))], tmp_path)
    assert ran.made == ("fourth",)


@pytest.mark.parametrize("damage", ["changed", "removed", "added", "stamp"])
def test_what_was_touched_is_made_again(tmp_path: Path, damage: str) -> None:
    built(chain(), tmp_path)
    made = tmp_path / "second" / "out.txt"
    match damage:
        case "changed":
            made.write_text("spoiled")
        case "removed":
            made.unlink()
        case "added":
            (tmp_path / "second" / "more.txt").write_text("")
        case _:
            (tmp_path / "second" / STAMP).write_text("{")
    ran, _ = built(chain(), tmp_path)
    assert ran.made == ("second",)
    assert made.read_text() == "a"
    assert not (tmp_path / "second" / "more.txt").exists()


def test_files_from_outside_count_by_content(tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    (data / "one.txt").write_text("1")
    steps = [Step("read", writes("x"), files=(data,))]
    built(steps, work)
    os.utime(data / "one.txt", (1, 1))
    assert built(steps, work)[0].made == ()
    (data / "one.txt").write_text("2")
    assert built(steps, work)[1].why["read"] == ["its data changed"]


def test_data_that_are_gone_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        built([Step("read", writes("x"), files=(tmp_path / "nowhere",))], tmp_path / "work")


def test_what_is_written_outside_is_watched_too(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def make(task: Task) -> None:
        out.mkdir(exist_ok=True)
        (out / "bundle.txt").write_text("bundle")

    steps = [Step("release", make, outside=(out,))]
    built(steps, tmp_path / "work")
    assert built(steps, tmp_path / "work")[0].made == ()
    (out / "bundle.txt").unlink()
    assert built(steps, tmp_path / "work")[0].made == ("release",)


def test_a_step_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    def fails(task: Task) -> None:
        (task.folder / "half.txt").write_text("half")
        raise ValueError("no luck")

    broken = [*chain(), Step("fourth", fails, needs=("third",))]
    with pytest.raises(ValueError, match="no luck"):
        built(broken, tmp_path)
    assert Stamp.read(tmp_path / "fourth") is None
    ran, _ = built([*chain(), Step("fourth", writes("y"), needs=("third",))], tmp_path)
    assert ran.made == ("fourth",)
    assert not (tmp_path / "fourth" / "half.txt").exists(), "a step that cannot go on begins with nothing"


def counting(stop_at: int) -> Callable[[Task], None]:
    """Counts to three in a file, and is interrupted at a number."""

    def count(task: Task) -> None:
        path = task.folder / "count.txt"
        begun = int(path.read_text()) if task.resume else 0
        for number in range(begun + 1, 4):
            path.write_text(str(number))
            if number == stop_at:
                raise KeyboardInterrupt
        (task.folder / "began_at.txt").write_text(str(begun))

    return count


def test_an_interrupted_step_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        built([Step("train", counting(2), resumable=True)], tmp_path)
    _, heard = built([Step("train", counting(0), resumable=True)], tmp_path)
    assert heard.resumed == ["train"]
    assert (tmp_path / "train" / "began_at.txt").read_text() == "2"


def test_an_interrupted_step_of_other_parameters_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        built([Step("train", counting(2), resumable=True, parameters=1)], tmp_path)
    _, heard = built([Step("train", counting(0), resumable=True, parameters=2)], tmp_path)
    assert heard.resumed == []
    assert (tmp_path / "train" / "began_at.txt").read_text() == "0"


KILLED = """
import sys, time
from pathlib import Path
from modelkit.pipeline.engine import Step, Task, run
from tests.modelkit.test_pipeline_engine import Heard, writes

def slow(task):
    (task.folder / "half.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(600)

run([Step("first", writes("a")), Step("second", slow, needs=("first",), resumable=True)], Path(sys.argv[1]), Heard())
"""


def test_after_a_kill_the_next_run_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait(DEADLINE_S)
    seen = []

    def goes_on(task: Task) -> None:
        seen.append((task.resume, (task.folder / "half.txt").read_text()))

    steps = [Step("first", writes("a")), Step("second", goes_on, needs=("first",), resumable=True)]
    heard = Heard()
    ran = run(steps, tmp_path, heard, same_code=True)
    assert ran.made == ("second",)
    assert seen == [(True, "half")]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    def nested(task: Task) -> None:
        with pytest.raises(WorkBusy, match="another build works"):
            built(chain(), tmp_path)
        (task.folder / "out.txt").write_text("x")

    built([Step("outer", nested)], tmp_path)
    assert (tmp_path / "outer" / "out.txt").exists()


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        pytest.param([("a", ("b",)), ("b", ("a",))], "circle: .*a.*b", id="a circle"),
        pytest.param([("a", ("c",))], "a needs c", id="an unknown need"),
        pytest.param([("a", ()), ("a", ())], "two steps are named a", id="one name twice"),
    ],
)
def test_impossible_steps_are_refused(steps: list[tuple[str, tuple[str, ...]]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        order(Step(name, writes("x"), needs=needs) for name, needs in steps)


def test_the_order_given_is_kept_where_needs_allow() -> None:
    steps = [Step("a", writes("")), Step("b", writes(""), needs=("a",)), Step("c", writes("")), Step("d", writes(""))]
    assert [step.name for step in order(steps)] == ["a", "b", "c", "d"]


def test_code_counts_with_all_that_it_imports_of_the_project() -> None:
    found = closure("modelkit.evaluate")
    assert {"modelkit.evaluate", "schemas.manifest", "schemas.base"} <= set(found)
    assert not any(name.startswith(("numpy", "cv2")) for name in found)
    assert "modelkit.models.unet" in closure("modelkit.train"), "architectures are chosen by name"
    assert "modelkit.pipeline.engine" not in closure("modelkit.pipeline.steps.train")
    assert code_digest("modelkit.evaluate") != code_digest("modelkit.boxes")


def test_other_code_runs_a_step_again_unless_told_it_is_the_same(tmp_path: Path) -> None:
    steps = chain()
    built(steps, tmp_path)
    stamp = tmp_path / "second" / STAMP
    told = json.loads(stamp.read_text())
    told["origin"]["code"] = "0" * 64
    stamp.write_text(json.dumps(told))
    assert run(steps, tmp_path, Heard(), same_code=True).made == ()
    ran, heard = built(steps, tmp_path)
    assert ran.made == ("second",)
    assert heard.why["second"] == ["its code changed"]

"""Runs the steps of a pipeline by their needs; skips what is up to date, goes on with what was interrupted.

Each step has a folder of its own in the work folder. A stamp in it says what the step was made from and what it made;
it is written last, so that whatever ends the process leaves a step either made or to be made again.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

from modelkit.pipeline.code import code_digest
from modelkit.pipeline.stamp import (
    BEGUN,
    STAMP,
    Origin,
    Stamp,
    digest_files,
    digest_of,
    outputs,
    read_begun,
    write_json,
)


class WorkBusy(Exception):
    """Another run works in the same folder."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a step gets: a folder of its own to write to, and the folders of the steps that it needs. With `resume`
    the folder holds what an interrupted run of the same step left.
    """

    folder: Path
    inputs: Mapping[str, Path]
    resume: bool


@dataclass(frozen=True, slots=True)
class Step:
    """`parameters` are plain values; `files` come from outside of the work folder, `outside` are written there.

    `resumable`: `run` can go on from what it left itself. The code of its module counts, and all that this imports;
    `code` names modules that run elsewhere, in another environment.
    """

    name: str
    run: Callable[[Task], None]
    needs: tuple[str, ...] = ()
    parameters: Any = None
    files: tuple[Path, ...] = ()
    outside: tuple[Path, ...] = ()
    resumable: bool = False
    code: tuple[str, ...] = ()


class Watcher(Protocol):
    """Is told how far a run has come."""

    def began(self, step: str, number: int, of: int, why: Sequence[str], *, resumed: bool) -> None: ...

    def skipped(self, step: str, number: int, of: int) -> None: ...

    def ended(self, step: str, took_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Ran:
    """The steps in their order, by what became of them."""

    made: tuple[str, ...]
    skipped: tuple[str, ...]
    folders: Mapping[str, Path]


def run(steps: Iterable[Step], work: Path, watcher: Watcher, *, same_code: bool = False) -> Ran:
    """Errors: WorkBusy; ValueError for needs that go in a circle or name no step; whatever a step raises, and then the
    steps before it are kept. `same_code` takes what other versions of the code made as up to date.
    """
    ordered = order(steps)
    made, skipped = [], []
    with _locked(work):
        stamps: dict[str, Stamp] = {}
        folders = {step.name: work / step.name for step in ordered}
        for number, step in enumerate(ordered, 1):
            folder = folders[step.name]
            origin = _origin(step, stamps)
            old = Stamp.read(folder)
            why = ["not made before"] if old is None else origin.differs(old.origin, same_code=same_code)
            if old is not None and not why and not old.is_whole(folder, step.outside):
                why = ["its files were changed or removed"]
            if old is not None and not why:
                watcher.skipped(step.name, number, len(ordered))
                stamps[step.name] = old
                skipped.append(step.name)
                continue
            begun = read_begun(folder)
            resume = step.resumable and begun is not None and not origin.differs(begun, same_code=same_code)
            watcher.began(step.name, number, len(ordered), why, resumed=resume)
            task = Task(folder, {need: folders[need] for need in step.needs}, resume)
            stamps[step.name] = _make(step, task, origin)
            watcher.ended(step.name, stamps[step.name].took_s)
            made.append(step.name)
    return Ran(tuple(made), tuple(skipped), folders)


def order(steps: Iterable[Step]) -> list[Step]:
    """Each behind what it needs, else as given. Errors: ValueError."""
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise ValueError(f"two steps are named {step.name}")
        by_name[step.name] = step
    for step in by_name.values():
        if unknown := [need for need in step.needs if need not in by_name]:
            raise ValueError(f"{step.name} needs {', '.join(unknown)}, and there is no such step")
    sorter = TopologicalSorter({step.name: step.needs for step in by_name.values()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"the needs of the steps go in a circle: {' -> '.join(error.args[1])}") from None
    places = {name: place for place, name in enumerate(by_name)}
    ready, names = list(sorter.get_ready()), list[str]()
    while ready:
        ready.sort(key=places.__getitem__)
        names.append(ready.pop(0))
        sorter.done(names[-1])
        ready += sorter.get_ready()
    return [by_name[name] for name in names]


def _origin(step: Step, stamps: Mapping[str, Stamp]) -> Origin:
    return Origin(
        parameters=digest_of(step.parameters),
        code=code_digest(step.run.__module__, *step.code),
        files=digest_files(step.files),
        inputs={need: stamps[need].made for need in step.needs},
    )


def _make(step: Step, task: Task, origin: Origin) -> Stamp:
    if not task.resume:
        shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / STAMP).unlink(missing_ok=True)
    write_json(task.folder / BEGUN, asdict(origin))
    started = time.monotonic()
    step.run(task)
    stamp = Stamp(origin, outputs(task.folder, step.outside), round(time.monotonic() - started, 2))
    stamp.write(task.folder)
    (task.folder / BEGUN).unlink()
    return stamp


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkBusy(f"another build works in {work}: wait for it, or name another --work") from None
        yield

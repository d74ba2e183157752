"""A `collect` under way: pictures from the lanes' threads to the disk, and from there to a server."""

import queue
import threading
from collections.abc import Mapping
from typing import Any

from agent.core.frame import Frame
from agent.core.job import Job
from agent.errors import Permanent
from agent.loops.jobs.parts import JobParts, JobProgress
from schemas.codes import FailureCode
from schemas.job import CollectDocument, CollectedDefect, CollectedPicture, CollectOutput
from schemas.recipe import Evaluation
from schemas.result import Result

MOST_WAITING = 4
"""Pictures in memory; more are dropped and counted."""
PROGRESS_S = 5.0
_LOOK_AT_STOP_S = 0.25


class Collecting:
    """`offer` may be called from any thread; `run` blocks the worker's.

    It goes on where an earlier process ended: pictures on the disk count, those that were sent are not sent again.
    """

    def __init__(self, job: Job, document: CollectDocument, parts: JobParts) -> None:
        self._job_id = job.job_id
        self._document = document
        self._cameras = frozenset(document.cameras)
        self._parts = parts
        self._waiting: queue.Queue[tuple[Frame, Result]] = queue.Queue(MOST_WAITING)
        self._counting = threading.Lock()
        self._told_s = parts.monotonic()
        self._is_open = False
        self._is_forsaken = False
        before = CollectOutput.model_validate(job.details) if job.details else None
        self._uploads = before is not None and before.stage == "uploading"
        self._now = before or CollectOutput(stage="collecting", collected=0, dropped=0, collected_bytes=0)

    def offer(self, frame: Frame, result: Result) -> None:
        """Take the picture if it is wanted and there is room for it; never waits."""
        if not self._is_open or not wants(self._document, frame, result, self._cameras):
            return
        try:
            self._waiting.put_nowait((frame, result))
        except queue.Full:
            with self._counting:
                self._now = self._now.model_copy(update={"dropped": self._now.dropped + 1})

    def forsake(self) -> None:
        """Nobody wants the pictures: when stopped, leave nothing."""
        self._is_forsaken = True

    def details(self) -> Mapping[str, Any]:
        return self._now.model_dump(mode="json", by_alias=True, exclude_none=True)

    def run(self, stop: threading.Event) -> None:
        """Errors: those of the collection and the uploader; Permanent(CAMERA_LOST) where no picture came at all."""
        try:
            held = self._parts.collection.begin(self._job_id)
            if self._uploads:
                self._set(uploaded=max(0, self._now.collected - held.pictures))
            else:
                self._set(collected=held.pictures, collected_bytes=held.size_bytes)
                self._collect(stop)
            if self._document.upload is not None and not stop.is_set():
                self._upload(self._document.upload, stop)
            self._set(stage=self._now.stage if stop.is_set() else "done")
        finally:
            self._is_open = False
            if stop.is_set() and self._is_forsaken:
                self._parts.collection.discard(self._job_id)

    def _collect(self, stop: threading.Event) -> None:
        document, monotonic = self._document, self._parts.monotonic
        ends_s = monotonic() + document.seconds
        self._is_open = True
        while self._now.collected < document.count and monotonic() < ends_s and not stop.is_set():
            try:
                frame, result = self._waiting.get(timeout=_LOOK_AT_STOP_S)
            except queue.Empty:
                continue
            self._keep(frame, result)
        self._is_open = False
        if not self._now.collected and document.which == "all" and not stop.is_set():
            cameras = ", ".join(document.cameras)
            text = (
                f"no picture of {cameras} within {document.seconds:g} s: see whether they stream and a model inspects"
            )
            raise Permanent(FailureCode.CAMERA_LOST, text[:2000])

    def _keep(self, frame: Frame, result: Result) -> None:
        about = describe(self._job_id, result).to_json()
        size_bytes = self._parts.collection.save(self._job_id, result.image.id, frame.picture, about)
        now = self._now
        self._set(collected=now.collected + 1, collected_bytes=now.collected_bytes + size_bytes)
        if self._parts.monotonic() - self._told_s >= PROGRESS_S:
            self._tell()

    def _upload(self, url: str, stop: threading.Event) -> None:
        parts = self._parts
        self._set(stage="uploading", uploaded=self._now.uploaded or 0)
        # Before the first file goes: a restart must know that those which are gone were sent, not yet to be collected.
        stored = self._tell()
        while not stored.wait(_LOOK_AT_STOP_S) and not stop.is_set():
            pass
        for name in parts.collection.names(self._job_id):
            if stop.is_set():
                return
            parts.uploader.put(url, name, parts.collection.read(self._job_id, name), stop)
            parts.collection.remove(self._job_id, name)
            if name.endswith(".json"):
                self._set(uploaded=(self._now.uploaded or 0) + 1)
            if parts.monotonic() - self._told_s >= PROGRESS_S:
                self._tell()
        parts.collection.discard(self._job_id)

    def _set(self, **changes: object) -> None:
        with self._counting:
            self._now = self._now.model_copy(update=changes)

    def _tell(self) -> threading.Event:
        self._told_s = self._parts.monotonic()
        stored = threading.Event()
        self._parts.put(JobProgress(self._job_id, self.details(), stored))
        return stored


def wants(document: CollectDocument, frame: Frame, result: Result, cameras: frozenset[str]) -> bool:
    if frame.camera not in cameras:
        return False
    if document.which == "all" or result.result_evaluation is Evaluation.NOT_DECIDABLE:
        return True
    low, high = document.band
    return any(low <= defect.score <= high for defect in result.defects)


def describe(job_id: str, result: Result) -> CollectedPicture:
    return CollectedPicture(
        job_id=job_id,
        result_id=result.result_id,
        image_id=result.image.id,
        camera=result.station.camera,
        capture_time=result.image.capture_time,
        is_simulated=result.is_simulated,
        evaluation=result.result_evaluation.name,
        defects=[CollectedDefect(class_name=one.class_name, score=one.score) for one in result.defects],
        model=result.model,
    )

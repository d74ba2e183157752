"""The models of one lane: the one that inspects, the one before it that stands by, the one in the shadow."""

import logging
from collections.abc import Callable
from dataclasses import replace

from agent.errors import AgentError
from agent.loops.inspect import Loaded
from agent.loops.orders import Commit, Flip, LaneOrder, Release, Replan, Restore, StartShadow
from agent.ports import Segmenter

log = logging.getLogger(__name__)


class Generations:
    """Owned by the lane's thread; `segmenters` may be read from others. `retire` ends what is no longer needed."""

    def __init__(self, retire: Callable[[Segmenter], None]) -> None:
        self._retire = retire
        self._void_work = -1
        self.active: Loaded | None = None
        self.standby: Loaded | None = None
        self.shadow: Loaded | None = None
        self.is_released = False

    def begin(self, loaded: Loaded) -> None:
        self.active = loaded

    def segmenters(self) -> list[Segmenter]:
        return [loaded.segmenter for loaded in (self.active, self.standby, self.shadow) if loaded]

    def obey(self, order: LaneOrder) -> None:
        match order:
            case StartShadow():
                self._start_shadow(order)
            case Flip():
                self._flip(order)
            case Release():
                self._release(order)
            case Commit():
                self._commit(order)
            case Restore():
                self._restore(order)
            case Replan():
                self._replan(order)

    def fall_back(self) -> Loaded | None:
        """The model that stood by inspects again; None, and nothing changed, where there is none."""
        if self.standby is None:
            return None
        self._ended(self.active)
        self.active, self.standby = self.standby, None
        return self.active

    def end_shadow(self) -> None:
        self._ended(self.shadow)
        self.shadow = None

    def close(self) -> None:
        """End all, here and now."""
        for loaded in (self.active, self.standby, self.shadow):
            if loaded is not None:
                loaded.segmenter.close()
        self.active = self.standby = self.shadow = None
        self.is_released = False

    def _start_shadow(self, order: StartShadow) -> None:
        if order.work <= self._void_work:
            self._ended(order.loaded)
            return
        self._ended(self.shadow)
        self.shadow = order.loaded

    def _flip(self, order: Flip) -> None:
        if order.work <= self._void_work:
            self._ended(order.loaded)
            return
        loaded = order.loaded or self.shadow
        if loaded is None:
            return  # its core is out, or it was restarted and has ended its shadow: Commit will tell
        self._ended(self.standby)
        if loaded is not self.shadow:
            self._ended(self.shadow)
        self.active, self.standby, self.shadow = loaded, self.active, None
        self.is_released = False

    def _release(self, order: Release) -> None:
        if order.work > self._void_work:
            for loaded in (self.active, self.standby, self.shadow):
                if loaded is not None:
                    loaded.segmenter.close()
            self.active = self.standby = self.shadow = None
            self.is_released = True
        order.done.set()

    def _commit(self, order: Commit) -> None:
        self._keep_only(order.manifest_sha256, self.active)
        self.is_released = False

    def _restore(self, order: Restore) -> None:
        self._void_work = order.work
        self.is_released = False
        self._keep_only(order.manifest_sha256, self.active, self.standby, self.shadow)

    def _keep_only(self, manifest_sha256: str, *among: Loaded | None) -> None:
        kept = next((loaded for loaded in among if loaded and loaded.ref.manifest_sha256 == manifest_sha256), None)
        models = self.active, self.standby, self.shadow
        self.active, self.standby, self.shadow = kept, None, None
        for loaded in models:
            if loaded is not kept:
                self._ended(loaded)

    def _replan(self, order: Replan) -> None:
        self.active = self.active and replanned(self.active, order)
        self.standby = self.standby and replanned(self.standby, order)
        self.shadow = self.shadow and replanned(self.shadow, order)

    def _ended(self, loaded: Loaded | None) -> None:
        if loaded is not None:
            self._retire(loaded.segmenter)


def replanned(loaded: Loaded, order: Replan) -> Loaded:
    """A model that is not the current one may not fit the new recipes: it keeps the plans that it has."""
    try:
        return replace(loaded, plans=order.plans(loaded))
    except AgentError as error:
        log.warning("%s %s does not fit the new settings: %s", loaded.ref.name, loaded.ref.version, error.text)
        return loaded

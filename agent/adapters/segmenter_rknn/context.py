"""One runtime context of RKNNLite: the library's calls, and its errors as ours.

A crash or a hang of the library is not contained here: use it in a child process.
"""

import gc
import logging
import platform
import re
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from agent.adapters.segmenter_rknn.log import LOG, failure
from agent.core.rknn_header import parse_header, require_target
from agent.errors import Permanent
from agent.ports import Runtime
from schemas.codes import FailureCode
from schemas.target import Target


class CoreMask(IntEnum):
    """Which NPU cores a model runs on, in the library's numbers."""

    AUTO = 0
    CORE_0 = 1
    CORE_1 = 2
    CORE_2 = 4
    CORE_0_1 = 3
    CORE_0_1_2 = 7
    ALL = 0xFFFF


CORES: Final = {
    Target.RK3588: 3,
    Target.RK3576: 2,
    Target.RK3568: 1,
    Target.RK3566: 1,
    Target.RK3562: 1,
    Target.RV1126B: 1,
}
"""NPU cores of each chip."""

# The library makes new ctypes classes for every call, which only the cycle collector frees: 12 objects, about 10 kB a
# call with 2.5.0 (42 kB with 2.3.2, airockchip/rknn-toolkit2#42), and too few objects to start the collector often.
# They are always young, and collecting the young alone takes a thirtieth of the time of a full collection.
_CALLS_A_COLLECTION: Final = 16
_YOUNG: Final = 1

# Said by the runtime when a part of the graph was not computed; its output is then not this picture's, whatever the
# library returns (rockchip-linux/rknn-toolkit2#151).
_LOST_RUN: Final = "failed to submit"
_RUN_CODES: Final = {-1: "RKNN_ERR_FAIL", -2: "RKNN_ERR_TIMEOUT", -4: "RKNN_ERR_MALLOC_FAIL"}

_LOG_NAME: Final = "acuityLogger"  # the library's, as of 2.5.0


class Context:
    """The file's header is read before the library sees it.

    Errors of the constructor: Permanent with CONFIG_INVALID (core mask), MODEL_MISSING, MODEL_INVALID,
    MODEL_WRONG_TARGET, MODEL_TOO_NEW, RUNTIME_MISSING or RUNTIME_TOO_OLD; Retryable with NPU_FAULT, NPU_TIMEOUT or
    NPU_OUT_OF_MEMORY. The text is the library's own. Source: rknn-toolkit-lite2 2.5.0, RKNNLite.
    """

    def __init__(self, path: str, target: Target, core_mask: CoreMask) -> None:
        _check_core_mask(target, core_mask)
        toolkit = _check_file(path, target)
        self._path = path
        self._calls = 0
        self._lite: Any = _library()
        with LOG.listen() as said:
            mask = core_mask if CORES[target] > 1 else CoreMask.AUTO
            ready = self._lite.load_rknn(path) == 0 and self._lite.init_runtime(core_mask=int(mask)) == 0
            version = self._lite.get_sdk_version() if ready else None
            if version is not None:
                _heed_run(self._lite.rknn_runtime)
        if version is None:
            self.close()
            raise failure(f"{path} (toolkit {toolkit}) cannot be started", said)
        self.runtime = Runtime("rknnrt", _versions(version, "API"), _versions(version, "DRV"))

    @property
    def is_closed(self) -> bool:
        return self._lite is None

    def run(self, tensors: Sequence[npt.NDArray[Any]], **how: Any) -> Sequence[npt.NDArray[Any]]:
        """The library's own buffers, float32, which the next call overwrites. `how` is that of RKNNLite.inference:
        data_type and data_format of each tensor.

        Errors: Retryable with NPU_FAULT, NPU_TIMEOUT or NPU_OUT_OF_MEMORY; Permanent where the library refuses the
        tensors, and once closed.
        """
        if self._lite is None:
            raise Permanent(FailureCode.INTERNAL, f"{self._path}: the model is closed")
        self._calls += 1
        if self._calls % _CALLS_A_COLLECTION == 0:
            gc.collect(_YOUNG)
        with LOG.listen() as said:
            outputs = self._lite.inference(inputs=list(tensors), reuse_outputs=True, **how)
        if outputs is None or _LOST_RUN in "".join(said):
            raise failure(f"{self._path}: no output", said)
        found: Sequence[npt.NDArray[Any]] = outputs
        return found

    def close(self) -> None:
        lite, self._lite = self._lite, None
        if lite is not None:
            with LOG.listen():
                lite.release()


def _check_core_mask(target: Target, core_mask: CoreMask) -> None:
    if target not in CORES:
        raise Permanent(FailureCode.CONFIG_INVALID, f"{target.value} has no NPU")
    if core_mask is not CoreMask.ALL and core_mask.bit_length() > CORES[target]:
        text = f"core mask {core_mask.name} on {target.value}, which has {CORES[target]} NPU core(s)"
        raise Permanent(FailureCode.CONFIG_INVALID, text)


def _check_file(path: str, target: Target) -> str:
    """Return the toolkit version of the file when this board may load it."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror}") from error
    header = parse_header(content)
    require_target(header, target)
    return header.toolkit


def _library() -> Any:
    """Return a new RKNNLite whose log goes to the process's stderr."""
    if platform.machine() != "aarch64":
        text = f"the RKNN runtime needs a Rockchip board (aarch64), this is {platform.machine()}: use the variant cpu"
        raise Permanent(FailureCode.RUNTIME_MISSING, text)
    try:
        from rknnlite.api import RKNNLite  # noqa: PLC0415 - exists on boards alone, and takes a second to import
    except ImportError as error:
        text = f"install rknn-toolkit-lite2 (it has wheels for aarch64 and Python below 3.13 only): {error}"
        raise Permanent(FailureCode.RUNTIME_MISSING, text) from error
    lite = RKNNLite()
    for handler in logging.getLogger(_LOG_NAME).handlers:
        if isinstance(handler, logging.StreamHandler) and sys.__stderr__ is not None:
            handler.setStream(sys.__stderr__)
    return lite


def _heed_run(runtime: Any) -> None:
    """Make a failed rknn_run an exception: RKNNLite drops its code, and gives the picture before's answer for this one.

    RKNNLite catches the exception as it does those of its other calls, logs it and answers None.
    """
    run = runtime.run

    def heeded(*arguments: Any, **named: Any) -> Any:
        result = run(*arguments, **named)
        code = result[0] if isinstance(result, tuple) else result
        if isinstance(code, int) and code != 0:
            raise RuntimeError(f"rknn_run failed, error code: {_RUN_CODES.get(code, code)}")
        return result

    runtime.run = heeded


def _versions(text: str, key: str) -> str:
    """Read one version out of `API: 2.5.0 (...)` or `DRV: 0.9.8`."""
    found = re.search(rf"{key}:[ \t]*(\S.*)", text)
    return found.group(1).strip() if found else "unknown"

"""What a `.rknn` file or a bundle says of itself: read without any NPU library, and compared with what is there."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agent.core.rknn_header import parse_header, require_target
from agent.errors import Permanent
from schemas.manifest import Manifest, Score
from schemas.stages import ModelFile
from schemas.target import Target

_MOST_BYTES: Final = 2 * 2**30
_MOST_TENSORS: Final = 64
_SECTION_AT, _PREFIX_BYTES = 16, 64


class Unreadable(ValueError):
    """It is no model file and no bundle; the text says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """As the file names it; a Rockchip file lists (N, C, H, W) whatever the board feeds."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class RknnFile:
    """`platforms` is what the file says, `targets` the boards that it runs on."""

    path: str
    bytes: int
    sha256: str
    format_version: int
    platforms: tuple[str, ...]
    targets: tuple[str, ...]
    toolkit: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class BundleFile:
    """`problem` is empty where the file is what the manifest says; `rknn` is None for files of other kinds."""

    target: str
    file: str
    dtype: str
    toolkit: str
    bytes: int
    sha256: str
    problem: str
    rknn: RknnFile | None


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """`problems` are all that is wrong, with the files' own."""

    path: str
    manifest: Manifest
    manifest_sha256: str
    files: tuple[BundleFile, ...]
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kind": "bundle",
            "path": self.path,
            "manifestSha256": self.manifest_sha256,
            "manifest": self.manifest.model_dump(mode="json", by_alias=True, exclude_none=True),
            "files": [asdict(each) for each in self.files],
            "problems": list(self.problems),
        }


def inspect(path: Path) -> RknnFile | BundleFolder:
    """Errors: Unreadable for what is neither, or cannot be read."""
    if path.is_dir():
        return inspect_bundle(path)
    if path.name == "manifest.json":
        return inspect_bundle(path.parent)
    return inspect_rknn(path)


def inspect_rknn(path: Path) -> RknnFile:
    """Errors: Unreadable for what is no complete `.rknn` file."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None
    try:
        header = parse_header(content)
    except Permanent as error:
        raise Unreadable(f"{path}: {error.text}") from None
    graph = _json(content)
    return RknnFile(
        path=str(path),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        format_version=header.format_version,
        platforms=header.platforms,
        targets=tuple(target.value for target in Target if target is not Target.CPU and _runs_on(header, target)),
        toolkit=header.toolkit,
        inputs=_tensors(graph, "input"),
        outputs=_tensors(graph, "output"),
    )


def inspect_bundle(folder: Path) -> BundleFolder:
    """Errors: Unreadable where there is no manifest that can be read. What else is wrong is told in `problems`."""
    path = folder / "manifest.json"
    try:
        raw = path.read_bytes()
        manifest = Manifest.model_validate_json(raw)
    except OSError as error:
        raise Unreadable(f"{folder} is no bundle: {path.name}: {error.strerror or error}") from None
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from None
    files = [
        _file(folder, part, variant.target, variant.dtype, variant.toolkit_version)
        for variant in manifest.variants
        for part in variant.files()
    ]
    golden = [
        f"{name}: {problem}"
        for frame in manifest.golden.frames
        for name, sha256 in frame.sha256.items()
        if (problem := _differs(folder / name, None, sha256))
    ]
    wrong = [f"{each.file}: {each.problem}" for each in files if each.problem]
    return BundleFolder(str(folder), manifest, hashlib.sha256(raw).hexdigest(), tuple(files), (*wrong, *golden))


def accuracy_rows(manifest: Manifest) -> list[list[str]]:
    """mIoU, IoU by class and regions' figures, float and int8."""
    scores: list[Score | None] = [manifest.accuracy.float32, manifest.accuracy.int8]

    def row(label: str, of: Callable[[Score], float | None]) -> list[str]:
        values = [None if score is None else of(score) for score in scores]
        return [label, *("-" if value is None else f"{value:.4f}" for value in values)]

    def iou(name: str) -> list[str]:
        return row(f"IoU {name}", lambda score: score.iou.get(name))

    return [
        row("mIoU", lambda score: score.miou),
        *(iou(spec.name) for spec in manifest.classes),
        row("regions: precision", lambda score: score.precision),
        row("regions: recall", lambda score: score.recall),
        row("regions: F", lambda score: score.f1),
    ]


def _file(folder: Path, part: ModelFile, target: Target, dtype: str, toolkit: str) -> BundleFile:
    problem, rknn = _differs(folder / part.file, part.bytes, part.sha256), None
    if not problem and part.file.endswith(".rknn"):
        try:
            rknn = inspect_rknn(folder / part.file)
            problem = "" if target.value in rknn.targets else f"it was built for {', '.join(rknn.platforms)}"
        except Unreadable as error:
            problem = str(error)
    return BundleFile(target.value, part.file, dtype, toolkit, part.bytes, part.sha256, problem, rknn)


def _differs(path: Path, size_bytes: int | None, sha256: str) -> str:
    """In words, how the file is not what the manifest says; empty where it is."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    if size_bytes is not None and len(content) != size_bytes:
        return f"it has {len(content)} bytes, the manifest says {size_bytes}"
    return "" if hashlib.sha256(content).hexdigest() == sha256 else "its SHA-256 is not the manifest's"


def _runs_on(header: Any, target: Target) -> bool:
    try:
        require_target(header, target)
    except Permanent:
        return False
    return True


def _json(content: bytes) -> dict[str, Any]:
    """The same JSON that `parse_header` has found whole."""
    at = _PREFIX_BYTES + int.from_bytes(content[_SECTION_AT : _SECTION_AT + 8], "little")
    length = int.from_bytes(content[at : at + 8], "little")
    graph: dict[str, Any] = json.loads(content[at + 8 : at + 8 + length])
    return graph


def _tensors(graph: dict[str, Any], side: str) -> tuple[Tensor, ...]:
    """Nothing where the file does not list them in the way that is known."""
    try:
        by_id = {each["tensor_id"]: each for each in graph["norm_tensor"]}
        ids = [each["right_tensor_id"] for each in graph["graph"] if each["left"] == side]
        return tuple(_tensor(by_id[at]) for at in ids[:_MOST_TENSORS])
    except (KeyError, TypeError, AttributeError, ValueError):
        return ()


def _tensor(entry: dict[str, Any]) -> Tensor:
    name = "".join(letter for letter in str(entry["url"])[:64] if letter.isprintable())
    return Tensor(name, tuple(int(size) for size in entry["size"][:8]), str(entry["dtype"]["vx_type"])[:16])

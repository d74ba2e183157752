"""`inspect`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modelkit.cli.said import AsJson, Exit, command, examples, show
from modelkit.inspect_file import BundleFolder, RknnFile, accuracy_rows
from modelkit.inspect_file import inspect as read
from schemas.manifest import Manifest


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} inspect model-rk3588.rknn",
            "{p} inspect modelkit/zoo/pcb-unet-1.1.0",
            "{p} inspect modelkit/zoo/pcb-unet-1.1.0 --json",
        )
    )(inspect)


@command
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE.rknn|BUNDLE", help="A model file, or a bundle's folder.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a model file or a bundle is: targets, toolkit, inputs, sizes, digests, accuracy.

    Needs no NPU library. Exit 1 if a bundle's files are not what its manifest says.
    """
    found = read(path)
    if isinstance(found, RknnFile):
        show({"kind": "rknn", **asdict(found)}, _of_file(found), as_json=as_json)
        return
    show(found.document(), _of_bundle(found), as_json=as_json)
    if found.problems:
        raise typer.Exit(int(Exit.FAILED))


def _of_file(found: RknnFile) -> str:
    rows = [
        ("file", found.path),
        ("runs on", ", ".join(found.targets) or f"no known board (it says {', '.join(found.platforms)})"),
        ("toolkit", found.toolkit),
        ("format", str(found.format_version)),
        *(("input", f"{each.name} {_shape(each.shape)} {each.dtype}") for each in found.inputs),
        *(("output", f"{each.name} {_shape(each.shape)} {each.dtype}") for each in found.outputs),
        ("bytes", f"{found.bytes:,}"),
        ("sha256", found.sha256),
    ]
    return _aligned(rows)


def _of_bundle(found: BundleFolder) -> str:
    manifest = found.manifest
    lineage = manifest.lineage
    rows = [
        ("bundle", f"{manifest.name} {manifest.version}, made {manifest.created_at:%Y-%m-%d %H:%M} UTC"),
        ("", manifest.description),
        ("licence", manifest.licence or "not stated"),
        ("inputs", "; ".join(_input(manifest))),
        ("output", f"{manifest.output} of {len(manifest.classes)} classes"),
        ("", ", ".join(spec.name for spec in manifest.classes)),
        ("made by", f"{lineage.architecture}, {lineage.parameters:,} parameters, {lineage.quantisation}"),
        ("steps", ", ".join(step.op for step in (*manifest.preprocess, *manifest.postprocess))),
        ("golden", f"{len(manifest.golden.frames)} frames, agreement at least {manifest.golden.least_agreement:g}"),
        ("manifest", f"sha256 {found.manifest_sha256}"),
    ]
    lines = [_aligned([row for row in rows if row[1]]), ""]
    lines.append(_columns([["target", "type", "bytes", "toolkit", "sha256", "file"], *_files(found)]))
    measured = manifest.accuracy
    lines += ["", f"accuracy on {measured.images} pictures: {measured.dataset}"]
    lines.append(_columns([["", "float32", "int8"], *accuracy_rows(manifest)]))
    if found.problems:
        lines += ["", "WRONG:", *(f"  {problem}" for problem in found.problems)]
    return "\n".join(lines)


def _files(found: BundleFolder) -> list[list[str]]:
    return [
        [each.target, each.dtype, f"{each.bytes:,}", each.toolkit, each.sha256[:16], each.file] for each in found.files
    ]


def _input(manifest: Manifest) -> list[str]:
    return [
        f"{spec.name} ({spec.role}) {' or '.join(f'{high}x{wide}' for high, wide in spec.shapes)} px {spec.colour}"
        for spec in manifest.inputs
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return json.dumps(list(shape))


def _aligned(rows: list[tuple[str, Any]]) -> str:
    wide = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{wide}}  {value}" for label, value in rows)


def _columns(rows: list[list[str]]) -> str:
    wides = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, wides, strict=True)).rstrip() for row in rows
    )

"""From settings to adapters: the parts of the composition that `run` and `check` share."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from agent.adapters.camera_cv2 import CvCamera, Kind, VideoOptions
from agent.adapters.camera_ffmpeg import FfmpegCamera, FfmpegOptions
from agent.adapters.camera_folder import FolderCamera, FolderOptions
from agent.adapters.camera_synthetic import SyntheticCamera, SyntheticOptions
from agent.adapters.mqtt_paho import LinkOptions, Tls
from agent.adapters.reference_fs import read_reference
from agent.adapters.segmenter_onnx import OnnxFactory, OnnxStageFactory
from agent.adapters.segmenter_process import ChainLink, Interpreter, ProcessChain, ProcessSegmenter
from agent.adapters.segmenter_rknn import CORES, CoreMask, RknnFactory, RknnStageFactory
from agent.config import CameraSettings, Continuous, Settings
from agent.core import rate
from agent.core.bundle import Bundle
from agent.core.result import Origin
from agent.core.vision import LibraryMissing, Roi, ShapeRule, View, require
from agent.core.vision.align import Limits
from agent.core.watch import Rules
from agent.errors import Permanent
from agent.loops.capture import Plan
from agent.loops.inspect import CameraPlan, InputShape, Plans, Reference
from agent.model_file import VerifiedFactory
from agent.ports import Camera, Segmenter, SegmenterFactory, StageFactory
from schemas.codes import FailureCode
from schemas.recipe import Recipe
from schemas.result import Station
from schemas.target import Target
from schemas.topics import Topics

log = logging.getLogger(__name__)

_LIVE = frozenset({"rtsp", "v4l2", "ffmpeg"})
_LIBRARIES = {"onnx": "onnxruntime", "rknn": "rknnlite.api"}
_MASKS = {0: CoreMask.CORE_0, 1: CoreMask.CORE_1, 2: CoreMask.CORE_2}


def camera_of(settings: CameraSettings) -> Camera:
    """The adapter for one camera; opens nothing."""
    size_px = (settings.width_px, settings.height_px) if settings.width_px and settings.height_px else None
    match settings.kind:
        case "folder":
            return FolderCamera(
                FolderOptions(settings.source, settings.pattern, settings.source_rate_hz or _rate_hz(settings),
                              settings.loop)
            )  # fmt: skip
        case "synthetic":
            width_px, height_px = size_px or (960, 720)
            pace_hz = settings.source_rate_hz or _rate_hz(settings)
            return SyntheticCamera(SyntheticOptions(settings.seed, height_px, width_px, rate_hz=pace_hz))
        case "ffmpeg":
            live = "://" in settings.source or settings.source.startswith("/dev/")
            return FfmpegCamera(
                FfmpegOptions(settings.source, settings.ffmpeg_args, settings.ffmpeg_output_args, live=live,
                              loop=settings.loop, size_px=size_px, stride_px=settings.stride_px,
                              stride_rows=settings.stride_rows, open_timeout_s=settings.open_timeout_s,
                              read_timeout_s=settings.read_timeout_s)
            )  # fmt: skip
        case "video" | "rtsp" | "v4l2":
            kind = {"video": Kind.FILE, "rtsp": Kind.STREAM, "v4l2": Kind.DEVICE}[settings.kind]
            return CvCamera(
                VideoOptions(settings.source, kind, settings.open_timeout_s, settings.read_timeout_s, settings.loop,
                             settings.source_rate_hz, size_px, settings.fourcc)
            )  # fmt: skip


def plan_of(settings: CameraSettings) -> Plan:
    """When pictures of this camera are wanted, and what counts as wrong with them."""
    live = settings.kind in _LIVE
    rules = Rules(frozen_after_s=10.0 if live else None, fixed_size=settings.kind != "folder")
    trigger = settings.trigger
    if isinstance(trigger, Continuous):
        return Plan(rate.Continuous(trigger.rate_hz), rules)
    live = live or settings.kind == "synthetic"
    return Plan(rate.OnDemand(live, trigger.delay_s, trigger.within_s), rules)


def link_options(settings: Settings, topics: Topics) -> LinkOptions:
    broker = settings.broker
    tls = Tls(broker.tls.ca, broker.tls.cert, broker.tls.key) if broker.tls else None
    return LinkOptions(
        host=broker.host,
        client_id=f"{topics.site}.{topics.node}",
        port=broker.port,
        username=broker.username,
        password=broker.password,
        tls=tls,
        subscriptions=tuple((topic_filter, 1) for topic_filter in topics.inbound()),
        keepalive_s=broker.keepalive_s,
        session_expiry_s=broker.session_expiry_s,
        window=broker.window,
        max_payload_bytes=broker.max_payload_bytes,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is to run."""

    target: Target
    core: int
    name: str


def segmenter_of(bundle: Bundle, settings: Settings, place: Place) -> Segmenter:
    """Load the model on one core, in a child process unless settings say otherwise; stages always have a child each.

    Raises AgentError.
    """
    if bundle.stages:
        return _chain_of(bundle, settings, place)
    factory: SegmenterFactory
    if bundle.variant.runtime == "onnx":
        factory = OnnxFactory(bundle.spec, settings.model.threads)
    else:
        factory = RknnFactory(bundle.spec, place.target, _mask_of(place))
    (part,) = bundle.parts
    factory = VerifiedFactory(factory, part.path, part.sha256, _LIBRARIES[part.runtime])
    if not settings.model.isolate:
        return factory()
    return ProcessSegmenter(
        factory,
        bundle.spec,
        deadline_s=settings.model.deadline_s,
        load_deadline_s=settings.model.load_deadline_s,
        core=place.name,
        interpreter=interpreter_of(settings),
    )


def _chain_of(bundle: Bundle, settings: Settings, place: Place) -> Segmenter:
    links = []
    for part, spec in zip(bundle.parts, bundle.stages, strict=True):
        factory: StageFactory
        if part.runtime == "onnx":
            factory = OnnxStageFactory(spec, settings.model.threads)
        else:
            factory = RknnStageFactory(spec, place.target, _mask_of(place))
        verified = VerifiedFactory(factory, part.path, part.sha256, _LIBRARIES[part.runtime])
        links.append(ChainLink(verified, spec, interpreter_of(settings)))
    return ProcessChain(
        links,
        deadline_s=settings.model.deadline_s,
        load_deadline_s=settings.model.load_deadline_s,
        core=place.name,
    )


def _mask_of(place: Place) -> CoreMask:
    """Errors: Permanent(CONFIG_INVALID) for a target without an NPU."""
    if place.target not in CORES:
        raise Permanent(FailureCode.CONFIG_INVALID, f"{place.target.value} has no NPU for an rknn file")
    return _MASKS[place.core] if CORES[place.target] > 1 else CoreMask.AUTO


def interpreter_of(settings: Settings) -> Interpreter:
    """The Python of the children."""
    command = settings.model.python or Interpreter().command
    path = tuple(str(entry) for entry in settings.model.python_path) or None
    return Interpreter(command, path)


def camera_plans(settings: Settings, bundle: Bundle, topics: Topics) -> Plans:
    """For each camera its own recipe (None) and every other that a job may ask for and that fits the model.

    Errors: Permanent(CONFIG_INVALID) where a camera's recipe or region of interest does not fit the model, or a step of
    the model needs a library that is not installed.
    """
    try:
        require(bundle.manifest)
    except LibraryMissing as error:
        raise Permanent(FailureCode.CONFIG_INVALID, str(error)) from error
    plans: dict[tuple[str, str | None], CameraPlan] = {}
    for camera in settings.camera:
        plans[camera.id, None] = _camera_plan(settings, camera, bundle, topics)
        for name in {"default", *settings.recipe}:
            try:
                other = camera.model_copy(update={"recipe": name})
                plan = _camera_plan(settings, other, bundle, topics)
                plans[camera.id, name] = replace(plan, shape=plans[camera.id, None].shape)
            except Permanent as error:
                log.debug("recipe %s is of no use to this model: %s", name, error.text)
    return plans


def _camera_plan(settings: Settings, camera: CameraSettings, bundle: Bundle, topics: Topics) -> CameraPlan:
    recipe = settings.recipe_of(camera)
    names = [spec.name for spec in bundle.manifest.classes]
    if unknown := recipe.rules.unknown(names):
        raise Permanent(
            FailureCode.CONFIG_INVALID,
            f"recipe {camera.recipe} has rules for {', '.join(unknown)}; the model knows {', '.join(names[1:])}",
        )
    try:
        view = View.of(bundle.manifest, Roi(*camera.roi) if camera.roi else None, recipe.rules)
    except ValueError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"camera {camera.id}: {error}") from error
    origin = Origin(
        station=Station(**settings.station.model_dump(), camera=camera.id),
        recipe_id=recipe.id,
        external_recipe_id=recipe.external_recipe_id,
        is_simulated=camera.kind == "synthetic",
        pixel_size_mm=camera.pixel_size_mm,
        classes=tuple(bundle.manifest.classes),
    )
    rule = ShapeRule.of(bundle.manifest)
    reference = _reference(recipe, camera) if "reference" in view.roles else None
    return CameraPlan(view, recipe, origin, topics.result(camera.id), InputShape(rule) if rule else None, reference)


def _reference(recipe: Recipe, camera: CameraSettings) -> Reference:
    path = recipe.reference.files.get(camera.id) if recipe.reference else None
    if recipe.reference is None or path is None:
        raise Permanent(
            FailureCode.CONFIG_INVALID,
            f"the model compares with a reference picture, and recipe {camera.recipe} has none for camera {camera.id}: "
            f"name it in [recipe.{camera.recipe}.reference] files",
        )
    of = recipe.reference
    limits = Limits(of.max_shift_px, of.max_angle_deg, of.max_scale_change, of.min_likeness)
    return Reference(read_reference(Path(path)), limits)


def _rate_hz(settings: CameraSettings) -> float | None:
    return settings.trigger.rate_hz if isinstance(settings.trigger, Continuous) else None

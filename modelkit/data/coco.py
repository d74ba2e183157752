"""Pictures with annotations in COCO's format: polygons, and masks as run lengths, compressed or not.

Classes are the categories in the order of their ids, after a background. Smaller instances lie on top of larger ones,
and crowds beneath all.
"""

import warnings
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pycocotools import mask as cocomask
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from agent.core.vision.rle import decompress
from modelkit.data.pictures import id_of, read_rgb
from modelkit.data.sample import DataError, Mask, Sample

BACKGROUND: Final = "background"
_MOST_CLASSES: Final = 254
_Side = Annotated[int, Field(gt=0, le=65535)]


class _Image(BaseModel):
    id: int
    file_name: str
    height: _Side
    width: _Side


class _Category(BaseModel):
    id: int
    name: Annotated[str, Field(min_length=1)]


class _Runs(BaseModel):
    size: tuple[_Side, _Side]
    counts: str | list[int]


class _Annotation(BaseModel):
    id: int
    image_id: int
    category_id: int
    segmentation: list[Annotated[list[FiniteFloat], Field(min_length=6)]] | _Runs
    iscrowd: Literal[0, 1] = 0


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1, max_length=_MOST_CLASSES)]


class Coco:
    """`annotations` is the JSON file; `images` the folder that its file names are relative to. Ids are these names
    without ending, `_` for `/`.

    Raises DataError when the file is not in the format, names no picture, or refers to what it does not name.
    """

    def __init__(self, annotations: Path, images: Path) -> None:
        self._path, self._folder = annotations, images
        content = _parsed(annotations)
        categories = sorted(content.categories, key=lambda each: each.id)
        self._classes = (BACKGROUND, *(category.name for category in categories))
        self._class_ids = {category.id: number for number, category in enumerate(categories, 1)}
        if len(set(self._classes)) < len(self._classes) or len(self._class_ids) < len(categories):
            raise DataError(f"{annotations} has a category twice, or one that is called {BACKGROUND}")
        self._images = {id_of(image.file_name): image for image in content.images}
        if not self._images or len(self._images) < len(content.images):
            raise DataError(f"{annotations} names {'a picture twice' if self._images else 'no picture'}")
        self._annotations = self._by_image(content)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._images)

    def read(self, sample_id: str) -> Sample:
        spec = self._images[sample_id]
        path = self._folder / spec.file_name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise DataError(f"{self._path}: {spec.file_name} lies outside of {self._folder}")
        image = read_rgb(path)
        if image.shape[:2] != (spec.height, spec.width):
            raise DataError(
                f"{path} is of {image.shape[1]}x{image.shape[0]} px, {self._path} says {spec.width}x{spec.height}: "
                "annotate it anew, or put the picture there that was annotated"
            )
        return Sample(sample_id, image, self._mask(spec))

    def _by_image(self, content: _File) -> dict[int, list[_Annotation]]:
        out: dict[int, list[_Annotation]] = defaultdict(list)
        known = {image.id for image in content.images}
        for each in content.annotations:
            if each.category_id not in self._class_ids:
                raise DataError(
                    f"{self._path}, annotation {each.id}: category {each.category_id} is none of its categories"
                )
            if each.image_id not in known:
                raise DataError(f"{self._path}, annotation {each.id}: picture {each.image_id} is none of its pictures")
            out[each.image_id].append(each)
        return out

    def _mask(self, image: _Image) -> Mask:
        mask = np.zeros((image.height, image.width), np.uint8)
        pieces = [(each, self._piece(each, image)) for each in self._annotations[image.id]]
        for each, piece in sorted(pieces, key=lambda pair: (-pair[0].iscrowd, -int(pair[1].sum()), pair[0].id)):
            mask[piece > 0] = self._class_ids[each.category_id]
        return mask

    def _piece(self, annotation: _Annotation, image: _Image) -> Mask:
        high, wide = image.height, image.width
        where = annotation.segmentation
        if not isinstance(where, _Runs):
            if any(len(polygon) % 2 for polygon in where):
                raise DataError(f"{self._path}, annotation {annotation.id}: a polygon has an odd number of coordinates")
            if not where:
                return np.zeros((high, wide), np.uint8)
            return _decoded(cocomask.merge(cocomask.frPyObjects(where, high, wide)))
        try:
            counts = decompress(where.counts) if isinstance(where.counts, str) else where.counts
        except ValueError as error:
            raise DataError(f"{self._path}, annotation {annotation.id}: {error}") from None
        # The library trusts the counts, and would read past its memory.
        if where.size != (high, wide) or min(counts, default=-1) < 0 or sum(counts) != high * wide:
            raise DataError(
                f"{self._path}, annotation {annotation.id}: the mask does not fill its picture of {wide}x{high} px"
            )
        return _decoded(cocomask.frPyObjects({"size": [high, wide], "counts": counts}, high, wide))


def _decoded(runs: object) -> Mask:
    with warnings.catch_warnings():
        # The library's arrays do not yet take the argument that numpy 2 passes to them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(cocomask.decode(runs), np.uint8)


def _parsed(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path} is not in COCO's format: {where}: {first['msg']}") from None

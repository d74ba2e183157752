"""What a product may show and still pass: the rules by which regions become a verdict."""

from enum import IntEnum

from pydantic import Field

from schemas.base import Id, Strict, Text
from schemas.manifest import Ratio
from schemas.stages import BundlePath


class Evaluation(IntEnum):
    """`resultEvaluation` of OPC 40100-1."""

    UNDEFINED = 0
    OK = 1
    NOT_OK = 2
    NOT_DECIDABLE = 3


class ClassRule(Strict):
    """A field that is left out takes the value of `ClassRules.default`, then of the manifest, then the one named here.

    `min_score` (0): pixels below it are background. `least_area_px` (0): smaller regions are dropped. `certain_score`
    (0.5): a region with a lower mean score is uncertain. `max_count` (0, or any number when `max_total_area_px` is
    given) and `max_total_area_px` (no limit) are what may be there of this class. An ignored class is neither reported
    nor judged. Areas are in camera pixels.
    """

    min_score: Ratio | None = None
    least_area_px: int | None = Field(default=None, ge=0)
    max_count: int | None = Field(default=None, ge=0)
    max_total_area_px: int | None = Field(default=None, ge=0)
    certain_score: Ratio | None = None
    ignore: bool | None = None


class ClassRules(Strict):
    """Rules for all classes and, by class name, for single ones."""

    default: ClassRule = ClassRule()
    per_class: dict[str, ClassRule] = Field(default_factory=dict, max_length=255)

    def of(self, name: str) -> ClassRule:
        """The rule of one class: its own fields, the default's where it has none."""
        own = self.per_class.get(name)
        if own is None:
            return self.default
        return self.default.model_copy(update=own.model_dump(exclude_none=True))

    def unknown(self, names: list[str]) -> list[str]:
        """Classes that have a rule and are not among the model's `names`: a misspelling, or a rule for another model.

        Such a rule is without effect; the class that it meant falls under the default.
        """
        return sorted(set(self.per_class) - set(names))


class PictureLimits(Strict):
    """Outside of these nothing can be decided. None: no limit.

    Brightness is the mean grey level, 0 to 255; sharpness the mean squared difference of grey levels two pixels apart;
    the saturated share is that of pixels with a grey level of 250 or more. All are measured at the model's scale.
    """

    min_brightness: float | None = Field(default=None, ge=0, le=255)
    max_brightness: float | None = Field(default=None, ge=0, le=255)
    min_sharpness: float | None = Field(default=None, ge=0)
    max_saturated_share: Ratio | None = None


class Reference(Strict):
    """Pictures of a part without defects, for models that compare with one.

    `files` has one for each camera: a picture of that camera's view and size, beside the board's settings. Each picture
    of the camera is aligned with it; where they differ by more than these limits nothing can be decided. Shift is in
    camera pixels at the picture's middle; likeness is the correlation of the two, 1 for the same but for light and
    contrast.
    """

    files: dict[Id, BundlePath] = Field(min_length=1, max_length=64)
    max_shift_px: float = Field(default=48, gt=0, le=1000)
    max_angle_deg: float = Field(default=3, ge=0, le=45)
    max_scale_change: Ratio = 0.03
    min_likeness: Ratio = 0.6


class Recipe(Strict):
    """`id` is the result's internalRecipeId. Without any rule every certain region is a defect."""

    id: Id = "default"
    external_recipe_id: Id | None = None
    description: Text = ""
    rules: ClassRules = ClassRules()
    picture: PictureLimits = PictureLimits()
    reference: Reference | None = None

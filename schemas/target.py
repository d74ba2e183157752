"""What a variant of a model runs on. Apart from the manifest, so that a segmenter's child need not load pydantic."""

from enum import StrEnum


class Target(StrEnum):
    RK3588 = "rk3588"
    RK3576 = "rk3576"
    RK3568 = "rk3568"
    RK3566 = "rk3566"
    RK3562 = "rk3562"
    RV1126B = "rv1126b"
    CPU = "cpu"

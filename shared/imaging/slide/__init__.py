"""Whole-slide images: read and described (`reading`), and freed of label, macro and identifying texts (`clean`)."""

from shared.imaging.slide.clean import CleanedSlide, clean_slide
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.reading import (
    Level,
    SlideInfo,
    describe_slide,
    open_slide,
    plausible_mpp,
)

__all__ = [
    "BrokenSlide",
    "CleanedSlide",
    "Level",
    "SlideInfo",
    "clean_slide",
    "describe_slide",
    "open_slide",
    "plausible_mpp",
]

"""Post-processing: what the neighbours of a window, its recording, its place and its time say of its probabilities."""

from birdemb.classify.postprocessing.chain import STEPS, Postprocessing
from birdemb.classify.postprocessing.context import Context, Windows
from birdemb.classify.postprocessing.file_level import Raise, Scale
from birdemb.classify.postprocessing.normalisation import Normalise
from birdemb.classify.postprocessing.origin_prior import OriginPrior
from birdemb.classify.postprocessing.smoothing import Smooth
from birdemb.classify.postprocessing.species_range import Range
from birdemb.classify.postprocessing.step import Step
from birdemb.classify.postprocessing.temperature import Temperature

__all__ = [
    "STEPS",
    "Context",
    "Normalise",
    "OriginPrior",
    "Postprocessing",
    "Raise",
    "Range",
    "Scale",
    "Smooth",
    "Step",
    "Temperature",
    "Windows",
]

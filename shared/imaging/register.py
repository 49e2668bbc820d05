"""Rigid registration of one scan to another of the same head."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.imaging.geometry import LPS, isotropic_grid, resample_through, resample_to, to_sitk
from shared.imaging.volume import Volume

WORKING_MM = 2.0
"""Cubic voxels for the search: thick slices and fine ones then weigh alike, and it takes seconds."""
BINS = 32
SEED = 20
FURTHEST_MM = 150.0
"""A head that moved further than this between sequences is a failed search."""


@dataclass(frozen=True)
class RegistrationInfo:
    """What the search found.

    moving_from_fixed: (4, 4) rigid, RAS+ mm of the fixed scan → RAS+ mm of the moving one.
    rotation_deg, shift_mm: how far that turns the head and moves the centre of the fixed scan.
    similarity_before, similarity_after: Mattes mutual information (nats; more is better) with the headers'
    own geometry and with the result; 0 when skipped. skipped: both had one grid, nothing was searched.
    """

    moving_from_fixed: NDArray[np.float64]
    rotation_deg: float
    shift_mm: float
    similarity_before: float
    similarity_after: float
    skipped: bool


def register_rigid(moving: Volume, fixed: Volume) -> tuple[Volume, RegistrationInfo]:
    """`moving` on the grid of `fixed` (linear, float32) after the rigid motion that best explains both.

    Mattes mutual information (2003) over three resolutions with a fixed seed and one thread: equal inputs
    give equal outputs. Volumes on one grid come back as they are. The search may start from the headers'
    geometry or from the centres of mass; a result worse than the headers' geometry is dropped for it.
    """
    if moving.same_grid(fixed):
        return moving, RegistrationInfo(np.eye(4), 0.0, 0.0, 0.0, 0.0, skipped=True)
    with _one_thread():
        fixed_image = _working_image(fixed)
        found, before, after = _align(_working_image(moving), fixed_image)
    matrix = LPS @ _matrix(found) @ LPS
    info = RegistrationInfo(
        matrix, _rotation_deg(matrix), _shift(found, fixed_image), before, after, skipped=False
    )
    return resample_through(moving, fixed, matrix, "linear"), info


@contextmanager
def _one_thread() -> Iterator[None]:
    """ITK on one thread, so that sums add up in one order. Its setting is global: the filters' own has no say
    over the metric's threads."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _align(moving: sitk.Image, fixed: sitk.Image) -> tuple[sitk.VersorRigid3DTransform, float, float]:
    """The best motion found, and the similarity before and after it."""
    headers = sitk.VersorRigid3DTransform()
    headers.SetCenter(_centre(fixed))
    before = _similarity(moving, fixed, headers)
    found = _search(moving, fixed, _start(moving, fixed, headers, before))
    after = _similarity(moving, fixed, found)
    if after < before or _shift(found, fixed) > FURTHEST_MM:
        return headers, before, before
    return found, before, after


def _working_image(volume: Volume) -> sitk.Image:
    return to_sitk(resample_to(volume, isotropic_grid(volume, WORKING_MM), "linear"))


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _similarity(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform) -> float:
    """Mutual information of the two; −inf when they do not overlap."""
    method = _method()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1, SEED)
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # ITK: "All samples map outside moving image buffer"
        return -np.inf


def _start(
    moving: sitk.Image, fixed: sitk.Image, headers: sitk.VersorRigid3DTransform, before: float
) -> sitk.VersorRigid3DTransform:
    """The better of the headers' geometry and the overlaid centres of mass."""
    centred = sitk.VersorRigid3DTransform(
        sitk.CenteredTransformInitializer(
            fixed, moving, headers, sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    return centred if _similarity(moving, fixed, centred) > before else headers


def _search(
    moving: sitk.Image, fixed: sitk.Image, start: sitk.VersorRigid3DTransform
) -> sitk.VersorRigid3DTransform:
    method = _method()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.4, 0.2, 0.06], SEED)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(sitk.VersorRigid3DTransform(start), inPlace=True)
    return sitk.VersorRigid3DTransform(method.Execute(fixed, moving))


def _matrix(transform: sitk.VersorRigid3DTransform) -> NDArray[np.float64]:
    """The (4, 4) of a centred rigid transform, in ITK's LPS+ frame."""
    rotation, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    return matrix


def _centre(image: sitk.Image) -> tuple[float, ...]:
    middle = [(n - 1) / 2 for n in image.GetSize()]
    return tuple(image.TransformContinuousIndexToPhysicalPoint(middle))


def _shift(transform: sitk.VersorRigid3DTransform, fixed: sitk.Image) -> float:
    """How far the centre of the fixed scan moves, mm."""
    centre = _centre(fixed)
    return float(np.linalg.norm(np.array(transform.TransformPoint(centre)) - centre))


def _rotation_deg(matrix: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))

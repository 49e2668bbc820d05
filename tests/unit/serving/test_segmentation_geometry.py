"""The mask lands where the tumour is, whatever the grid. Only the network is analytic, the rest is real."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.predictors.package import ModelManifest, ModelPackage
from serving.predictors.segmentation import MultiModalSegmenter
from shared.imaging.volume import Volume

MODALITIES = ("t1", "t1ce", "t2", "flair")
HEAD_MM, TUMOUR_MM = np.array([34.0, 40.0, 32.0]), 9.0
# Off centre on every axis, so that a mirrored or transposed mask cannot pass.
TUMOUR_CENTRE = np.array([12.0, -14.0, 8.0])


class BrightIsTumour(nn.Module):
    """WT, TC and ET alike: where the second channel stands far above the mean of the brain."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * (x[:, 1:2] - 2).expand(-1, 3, -1, -1, -1)


def segmenter(spacing_mm: float = 1.5) -> MultiModalSegmenter:
    """A segmenter with real resampling around the analytic network."""
    manifest = ModelManifest.model_validate(
        {
            "name": "analytic",
            "version": "1",
            "task": "segmentation",
            "framework": "torch",
            "predictor": "multi-modal-segmentation",
            "weights": "none",
            "preprocessing": {"spacing_mm": spacing_mm},
            "inference": {"window": [48, 48, 48], "mirror_axes": [0]},
            "inputs": [],
            "outputs": [],
            "licence": "CC0-1.0",
            "training_data": [],
            "intended_use": "tests",
            "files": {},
        }
    )
    torch.manual_seed(0)
    return MultiModalSegmenter(ModelPackage(Path(), manifest), BrightIsTumour())


def turned(
    codes: str, spacing: tuple[float, float, float], angles: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Voxel → RAS+ rotation and scale, storage axes towards `codes` (such as LPS), then turned by degrees."""
    towards = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    matrix = np.zeros((3, 3))
    for column, code in enumerate(codes):
        row, sign = towards[code]
        matrix[row, column] = sign * spacing[column]
    for axis, angle in enumerate(np.deg2rad(angles)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def head(
    matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> tuple[dict[str, Volume], NDArray[np.bool_]]:
    """An ellipsoid head with a bright ball, drawn in world space, sampled on a grid; and the ball's mask."""
    reach = np.abs(np.linalg.inv(matrix)) @ (HEAD_MM + 6)
    shape = np.ceil(2 * reach).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = offset - matrix @ ((shape - 1) / 2)
    world = np.moveaxis(np.indices(shape), 0, -1) @ matrix.T + affine[:3, 3] - offset
    inside = (world**2 / HEAD_MM**2).sum(axis=-1) < 1
    tumour = np.linalg.norm(world - TUMOUR_CENTRE, axis=-1) < TUMOUR_MM
    texture = 100 + 5 * np.sin(world.sum(axis=-1))
    image = np.where(inside, texture + 300 * tumour, 0).astype(np.float32)
    return {name: Volume(image, affine) for name in MODALITIES}, tumour


def world_centre(mask: NDArray[np.generic], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of gravity in mm."""
    return np.asarray(np.argwhere(mask).mean(axis=0) @ affine[:3, :3].T + affine[:3, 3])


orientations = st.sampled_from(["RAS", "LPS", "LAS", "RPI", "ASR", "SLP", "PIR"])
edges = st.floats(0.9, 3.5)
tilts = st.floats(-30, 30)
shifts = st.floats(-150, 150)


@settings(max_examples=25, deadline=None)
@given(
    orientations,
    st.tuples(edges, edges, edges),
    st.tuples(tilts, tilts, tilts),
    st.tuples(shifts, shifts, shifts),
)
def test_the_mask_lands_on_the_tumour_in_the_grid_of_the_input(
    codes: str,
    spacing: tuple[float, float, float],
    angles: tuple[float, float, float],
    shift: tuple[float, float, float],
) -> None:
    inputs, tumour = head(turned(codes, spacing, angles), np.array(shift))
    result = segmenter().predict(inputs)["label_map"]
    assert isinstance(result, Volume)
    assert result.data.shape == tumour.shape
    assert result.data.dtype == np.uint8
    np.testing.assert_array_equal(result.affine, inputs["t1"].affine)
    apart = world_centre(result.data, result.affine) - world_centre(tumour, result.affine)
    assert np.linalg.norm(apart) < 0.5 * max(spacing)
    agreement = (
        2 * np.count_nonzero((result.data != 0) & tumour) / (np.count_nonzero(result.data) + tumour.sum())
    )
    assert agreement > 0.75


def test_a_grid_finer_than_the_working_grid_is_smoothed_not_aliased() -> None:
    inputs, tumour = head(turned("LPS", (0.7, 0.7, 0.7), (0, 0, 0)), np.zeros(3))
    result = segmenter(spacing_mm=2.0).predict(inputs)["label_map"]
    assert isinstance(result, Volume)
    agreement = (
        2 * np.count_nonzero((result.data != 0) & tumour) / (np.count_nonzero(result.data) + tumour.sum())
    )
    assert agreement > 0.9


def test_a_sheared_grid_keeps_its_mask_on_the_tumour() -> None:
    sheared = np.diag([1.2, 1.2, 2.0]) @ np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    inputs, tumour = head(sheared, np.zeros(3))
    result = segmenter().predict(inputs)["label_map"]
    assert isinstance(result, Volume)
    apart = world_centre(result.data, result.affine) - world_centre(tumour, result.affine)
    assert np.linalg.norm(apart) < 1.0


@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_both_radiological_and_neurological_storage_give_the_same_patient_side(codes: str) -> None:
    inputs, _ = head(turned(codes, (1.0, 1.0, 1.0), (0, 0, 0)), np.zeros(3))
    result = segmenter().predict(inputs)["label_map"]
    assert isinstance(result, Volume)
    assert world_centre(result.data, result.affine)[0] == pytest.approx(TUMOUR_CENTRE[0], abs=0.5)

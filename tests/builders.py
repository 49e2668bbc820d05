"""Small builders that tests share."""

import gzip
from itertools import permutations, product
from pathlib import Path
from uuid import UUID

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.db.models import Role, Tenant, User
from shared.db.session import Database
from shared.ids import uuid7
from shared.imaging.nifti_fields import ByteOrder, header_dtype
from shared.imaging.volume import Volume
from shared.security.principal import Principal


def make_tenant(database: Database, slug: str = "") -> UUID:
    """A tenant with a unique slug."""
    tenant_id = uuid7()
    with database.system() as session:
        session.add(Tenant(id=tenant_id, slug=slug or f"tenant-{tenant_id.hex}", name="A hospital"))
    return tenant_id


def nifti_header(shape: tuple[int, ...] = (6, 5, 4), order: ByteOrder = "<", **fields: object) -> bytes:
    """A valid NIfTI-1 header of int16 voxels, 1 mm, RAS, with its empty extension; `fields` overrule it."""
    header = np.zeros(1, dtype=header_dtype(348, order))
    dim = np.ones(8, dtype=np.int64)
    dim[0], dim[1 : len(shape) + 1] = len(shape), shape
    affine = np.eye(4)[:3]
    valid = {"sizeof_hdr": 348, "magic": b"n+1", "dim": dim, "datatype": 4, "bitpix": 16, "vox_offset": 352}
    valid |= {"pixdim": np.ones(8), "sform_code": 1, "srow": affine}
    for name, value in (valid | fields).items():
        header[name] = value
    return header.tobytes() + bytes(4)


def nifti_file(path: Path, header: bytes, voxels: bytes = b"", compressed: bool = True) -> Path:
    """Writes a file that may be as wrong as the test wants."""
    content = header + voxels
    path.write_bytes(gzip.compress(content, 1, mtime=0) if compressed else content)
    return path


def nifti_voxels(count: int = 120, dtype: str = "<i2") -> bytes:
    """Voxels that differ."""
    return np.arange(count).astype(dtype).tobytes()


def nifti_rotation(axis: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """The (3, 3) rotation about `axis` (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(turned, dtype=np.float64)


@st.composite
def nifti_volumes(draw: st.DrawFn, largest_tilt: float = 30.0) -> Volume:
    """An empty uint8 volume about 100 mm wide around the world's origin: any axis order and signs (RAS, LPS,
    LAS, …), tilted by up to `largest_tilt` degrees, with cubic or uneven voxels."""
    order = draw(st.sampled_from(list(permutations(range(3)))))
    signs = draw(st.sampled_from(list(product((1.0, -1.0), repeat=3))))
    spacing = np.array([draw(st.sampled_from([2.0, 2.5, 3.1, 5.5])) for _ in range(3)])
    axis = np.array([0, 0, 2]) + np.array([draw(st.floats(-1, 1)) for _ in range(3)])
    tilt = nifti_rotation(axis, draw(st.sampled_from([0.0, draw(st.floats(-largest_tilt, largest_tilt))])))
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.eye(3)[:, list(order)] * signs * spacing
    shape = np.round(100.0 / spacing).astype(int)
    affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
    return Volume(np.zeros(shape, dtype=np.uint8), affine)


def nifti_ball(grid: Volume, centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    """Where the voxels of `grid` lie within `radius` mm of the world point `centre`."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return np.asarray(np.linalg.norm(world - np.array(centre), axis=-1) <= radius)


def nifti_texture(grid: Volume, seed: int = 0) -> NDArray[np.float64]:
    """Smooth variation (standard deviation about 1) tied to the patient, not to the grid."""
    random = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    waves = [np.sin(world @ random.normal(0, 0.12, 3) + random.uniform(0, 6)) for _ in range(12)]
    return np.asarray(np.sum(waves, axis=0) / np.sqrt(6), dtype=np.float64)


def make_user(database: Database, tenant_id: UUID, role: Role = Role.USER) -> Principal:
    """An account without a usable password, as a principal."""
    user_id = uuid7()
    with database.tenant(tenant_id) as session:
        session.add(
            User(
                id=user_id,
                tenant_id=tenant_id,
                email=f"{user_id.hex}@example.org",
                username=f"user-{user_id.hex}",
                password_hash="unusable",
                role=role,
            )
        )
    return Principal(user_id, tenant_id, role)

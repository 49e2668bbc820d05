"""CT studies: which series becomes the volume, where its voxels lie, and what is kept of every image."""

import io
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from functions.ingest.service import PSEUDONYMS, pseudonym_secret
from shared.db.models import FileRole
from shared.imaging.nifti import Limits, UnsupportedNifti, read_nifti
from shared.runtime import Services
from shared.security.keys import key_store
from shared.security.sealing import name_ring
from tests.builders import nifti_file, nifti_header
from tests.intake import Intake, Sent, of_role
from tests.unit.functions.ingest.series import NEEDLES, SPOKEN, ct_series, packed, scout
from tests.unit.shared.imaging.dicom.builders import AXIAL, CORONAL, SAGITTAL, make_image, pixels_of, save

HU = nifti_header((20, 20, 20))


def a_study(folder: Path) -> Path:
    """A scout, a thin and a thick series, and what else lies on a CD."""
    scout(folder / "scout")
    ct_series(folder / "thin", 6, SeriesNumber=2)
    ct_series(folder / "thick", 3, heights=[0.0, 5.0, 10.0], SeriesNumber=3)
    (folder / "README.txt").write_text("Read me first\n" * 50)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._scan").write_bytes(b"\0" * 100)
    return packed(folder, folder.with_suffix(".tar.gz"))


def test_the_right_series_becomes_the_volume_and_the_choice_is_told(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(a_study(tmp_path / "study"))
    assert (study.status, study.kind, study.step) == ("ingested", "ct", "ingested")
    [volume] = study.files
    assert (volume.role, volume.modality, volume.media_type) == ("volume", "ct", "application/x-nifti")
    assert volume.details["shape"] == [8, 6, 6]
    assert volume.details["series_number"] == 2
    assert volume.details["choice"].startswith("original axial CT with 6 planes")
    assert volume.details["hu_range"] == [1000 - 1024, 1557 - 1024]
    assert [(one["number"], one["chosen"]) for one in study.details["series"]] == [
        (2, True),
        (1, False),
        (3, False),
    ]
    assert study.details["passed_over"] == {"not an image that is read here": 1}
    assert study.details["kind_source"] == "modality"


def test_every_image_series_is_kept_de_identified_in_a_tar_of_its_own(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    study = intake.taken(a_study(tmp_path / "study"))
    series = intake.series(study.id)
    assert [(one.number, len(one.instances), one.chosen) for one in series] == [
        (1, 1, False),
        (2, 6, True),
        (3, 3, False),
    ]
    assert [one.reason is not None for one in series] == [True, True, True]
    for one in series:
        tar = services.storage.read(one.bucket, one.key)
        assert len(tar) == one.size
        assert not [needle for needle in NEEDLES if needle in tar]
        for instance in one.instances:
            content = tar[instance.offset : instance.offset + instance.size]
            image = dcmread(io.BytesIO(content))
            assert image.SOPInstanceUID == instance.sop_uid
            assert image.SeriesInstanceUID == one.series_uid
            assert image.PatientID == study.patient_id
            assert len(image.PixelData) == 8 * 6 * 2
            head = dcmread(io.BytesIO(content[: instance.header_bytes]), stop_before_pixels=True)
            assert "PixelData" not in head and head.Rows == 6
            assert content[instance.header_bytes : instance.header_bytes + 4] == b"\xe0\x7f\x10\x00"
    assert intake.objects(study.id) == sorted([*(f"dicom/{one.id}.tar" for one in series), "volume/ct.nii"])


def test_nothing_of_what_was_received_is_left(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(a_study(tmp_path / "study"))
    assert of_role(study, FileRole.RECEIVED) == []
    assert intake.incoming() == []


def test_the_patient_is_known_by_a_pseudonym_that_the_next_study_gets_too(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    first = intake.taken(packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz"))
    later = intake.taken(
        packed(
            ct_series(tmp_path / "b", StudyDate="20250301", StudyInstanceUID="1.2.3.5"), tmp_path / "b.tgz"
        )
    )
    other = intake.taken(packed(ct_series(tmp_path / "c", PatientID="another"), tmp_path / "c.tgz"))
    assert first.patient_id == later.patient_id != other.patient_id
    assert first.patient_id_source == "dicom"
    assert first.patient_id.startswith("PAT-") and len(first.patient_id) == 16
    assert services.once(name_ring).open(first.patient_name_sealed or b"", first.id) == SPOKEN
    assert first.scan_date is not None and later.scan_date is not None
    assert (later.scan_date - first.scan_date).days == 366  # 29 February 2024 to 1 March 2025, moved alike
    assert first.scan_date.year != 2024
    assert Intake(services).taken(tmp_path / "a.tar.gz").patient_id != first.patient_id  # another tenant


def test_keys_may_be_rotated_without_pseudonyms_changing(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    archive = packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz")
    before = intake.taken(archive)
    secret = pseudonym_secret(services)
    services.once(key_store).rotate("signing", "names", "audit", "root")
    assert pseudonym_secret(services) == secret != services.once(key_store).secret(PSEUDONYMS)
    after = intake.taken(archive, duplicate=True)
    assert after.patient_id == before.patient_id
    assert [one.series_uid for one in intake.series(after.id)] == [
        one.series_uid for one in intake.series(before.id)
    ]


def test_several_patients_in_one_study_are_refused(intake: Intake, tmp_path: Path) -> None:
    ct_series(tmp_path / "both" / "a")
    ct_series(tmp_path / "both" / "b", PatientID="another")
    study = intake.taken(packed(tmp_path / "both", tmp_path / "both.tar.gz"))
    assert study.status == "rejected"
    assert study.message == (
        "the images are of 2 patients by their Patient IDs; send each patient's study by itself"
    )
    assert intake.objects(study.id) == [] and intake.incoming() == []


@pytest.mark.parametrize("deidentify", [True, False])
def test_without_de_identification_images_stay_as_they_are(
    intake: Intake, services: Services, tmp_path: Path, deidentify: bool
) -> None:
    services.settings.deidentify = deidentify
    folder = ct_series(tmp_path / "a")
    study = intake.taken(packed(folder, tmp_path / "a.tar.gz"))
    [series] = intake.series(study.id)
    first = sorted(folder.iterdir())[0]
    tar = services.storage.read(series.bucket, series.key)
    assert (first.read_bytes() in tar) is not deidentify
    assert (series.series_uid == dcmread(first).SeriesInstanceUID) is not deidentify
    assert study.patient_id_source == "dicom"
    assert "Quibbleworth" not in str(series.attributes)  # the database holds no name in clear either way
    for instance in series.instances:
        content = tar[instance.offset : instance.offset + instance.size]
        assert content[instance.header_bytes : instance.header_bytes + 4] == b"\xe0\x7f\x10\x00"


def test_originals_are_kept_where_the_settings_say_so(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    services.settings.keep_originals = True
    archive = packed(ct_series(tmp_path / "a"), tmp_path / "Quibbleworth.tar.gz")
    study = intake.taken(archive)
    [original] = of_role(study, FileRole.ORIGINAL)
    assert services.storage.read("studies", original.key) == archive.read_bytes()
    assert services.once(name_ring).filename(original) == "Quibbleworth.tar.gz"
    assert "Quibbleworth" not in original.key


ORIENTATIONS = st.sampled_from([AXIAL, SAGITTAL, CORONAL])
ANGLES = st.floats(-25, 25)


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(ORIENTATIONS, ANGLES, st.booleans(), st.integers(3, 6))
def test_world_positions_of_the_stored_voxels_are_those_of_the_headers(
    intake: Intake,
    tmp_path_factory: pytest.TempPathFactory,
    orientation: tuple[float, ...],
    angle: float,
    backwards: bool,
    count: int,
) -> None:
    folder = tmp_path_factory.mktemp("stack")
    turned = _turned(orientation, angle)
    order = list(range(count))[:: -1 if backwards else 1]
    ct_series(folder, count, orientation=turned, order=order)
    study = intake.taken(packed(folder, folder / "stack.tar.gz"), duplicate=True)
    [volume] = study.files
    path = folder / "stored.nii"
    path.write_bytes(intake.services.storage.read(volume.bucket, volume.key))
    stored = read_nifti(path, Limits())
    assert np.allclose(np.array(volume.details["affine"]), stored.affine, atol=1e-3)
    for plane, row, column in product((0, count - 1), (0, 5), (0, 7)):
        world = _position(turned, plane, row, column)
        voxel = np.linalg.solve(stored.affine, np.append(world * (-1, -1, 1), 1))[:3]
        assert np.allclose(voxel, np.round(voxel), atol=0.01)
        value = stored.data[tuple(np.round(voxel).astype(int))]
        assert value == pixels_of(plane)[row, column] - 1024
    assert np.allclose(nibabel.load(path).affine, stored.affine, atol=1e-4)


def _turned(orientation: tuple[float, ...], degrees: float) -> list[float]:
    angle = np.radians(degrees)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    return [*(np.cos(angle) * row + np.sin(angle) * column), *(np.cos(angle) * column - np.sin(angle) * row)]


def _position(orientation: list[float], plane: int, row: int, column: int) -> np.ndarray:
    """LPS mm of a pixel, by the definition of PS3.3 C.7.6.2.1.1."""
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    first = np.array([-10.0, -20.0, 30.0]) + 2.0 * plane * np.cross(along, down)
    return np.asarray(first + along * 0.5 * column + down * 0.75 * row)


def test_a_nifti_ct_is_told_by_its_values_with_a_warning(intake: Intake, tmp_path: Path) -> None:
    voxels = np.linspace(-1000, 1500, 8000).astype("<i2")
    path = nifti_file(tmp_path / "scan.nii.gz", HU, voxels.tobytes())
    study = intake.taken(path)
    assert (study.status, study.kind, study.details["kind_source"]) == ("ingested", "ct", "content")
    assert "nothing but the values of its voxels" in study.details["warnings"][0]
    assert study.files[0].details["hu_range"] == [-1000, 1500]


def test_header_texts_of_a_nifti_file_are_not_kept(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    header = bytearray(HU)
    header[148:160], header[228:240], header[328:340] = (b"Quibbleworth",) * 3
    header[348:352] = b"\1\0\0\0"  # an extension follows
    extension = (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"Zacharias Quibbleworth  "
    header[108:112] = np.float32(352 + 32).tobytes()
    voxels = np.linspace(-1000, 1500, 8000).astype("<i2")
    path = tmp_path / "scan.nii"
    path.write_bytes(bytes(header) + extension + voxels.tobytes() + b"Quibbleworth")
    study = intake.taken(path, kind="ct")
    kept = tmp_path / "kept.nii.gz"
    kept.write_bytes(services.storage.read("studies", study.files[0].key))
    image = nibabel.load(kept)
    assert b"Quibbleworth" not in image.to_bytes() and b"Quibbleworth" not in kept.read_bytes()
    assert np.array_equal(np.asarray(image.dataobj).ravel(order="F"), voxels)


def test_a_single_plane_is_a_volume_that_says_so(intake: Intake, services: Services, tmp_path: Path) -> None:
    study = intake.taken(save(make_image(), tmp_path / "one.dcm"))
    [volume] = study.files
    assert (study.status, volume.details["shape"]) == ("ingested", [8, 6, 1])
    assert [issue["code"] for issue in volume.details["issues"]] == ["single-slice"]
    assert "one plane" in study.details["warnings"][0]
    path = tmp_path / "stored.nii"
    path.write_bytes(services.storage.read("studies", volume.key))
    assert read_nifti(path, Limits(allow_plane=True)).shape == (8, 6, 1)
    with pytest.raises(UnsupportedNifti, match="2D image"):
        read_nifti(path, Limits())


def test_a_gap_is_refused_by_its_place(intake: Intake, tmp_path: Path) -> None:
    ct_series(tmp_path / "gap", heights=[0.0, 2.0, 4.0, 8.0, 10.0, 12.0])
    study = intake.taken(packed(tmp_path / "gap", tmp_path / "gap.tar.gz"))
    assert study.status == "rejected"
    assert "missing at 1 place, first after plane 3 of 6" in str(study.message)


def test_what_is_declared_otherwise_is_refused_by_both_names(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz"), kind="brain-mri")
    assert study.message == (
        "the study was sent as a brain MRI, but holds DICOM images of modality CT; send each by itself"
    )


def test_a_mask_is_no_image(intake: Intake, tmp_path: Path) -> None:
    voxels = (np.arange(8000) % 4).astype("<i2")
    study = intake.taken(nifti_file(tmp_path / "seg.nii.gz", HU, voxels.tobytes()), kind="ct")
    assert "mask or label map" in str(study.message)


def test_a_file_that_is_not_what_its_sender_hashed_is_refused(intake: Intake, tmp_path: Path) -> None:
    archive = packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz")
    study = intake.taken(Sent(archive, "a.tar.gz", declared_sha256="0" * 64))
    assert study.status == "rejected"
    assert "but 000000" in str(study.message) and "send it again" in str(study.message)


def test_the_same_files_twice_are_one_study(intake: Intake, tmp_path: Path) -> None:
    archive = packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz")
    first = intake.taken(archive)
    again = intake.taken(archive)
    assert first.digest is not None and again.message == f"these files are study {first.id} already"
    assert intake.taken(archive, duplicate=True).status == "ingested"

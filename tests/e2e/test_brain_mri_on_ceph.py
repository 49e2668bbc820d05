"""The whole product with its objects in Ceph: upload, claim checks of the model server, results."""

import gzip

import nibabel
import numpy as np

from shared.imaging.modality import MODALITIES
from shared.imaging.synthetic import synthetic_study
from tests.conftest import open_folder
from tests.e2e.ceph import Ceph
from tests.integration.installation import Installation


def test_a_study_goes_from_upload_to_report_with_everything_in_ceph(ceph: Ceph) -> None:
    with open_folder() as folder:
        made = synthetic_study(folder / "study")
        with Installation(folder / "data", **ceph.environment("e2e-")) as installation:
            installation.start()
            installation.login()
            study = installation.wait(installation.submit([made[name] for name in MODALITIES])["id"])
            mask = installation.http.get(f"studies/{study['id']}/artifacts/mask").content
            report = installation.http.get(f"reports/{study['results']['report_id']}/pdf")
            assert installation.stop() == 0
        assert report.content.startswith(b"%PDF")
        assert not (folder / "data" / "objects").exists()
    labels = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(mask)).dataobj)
    assert labels.any()

"""DCMTK and dicomweb-client, as hospitals use them, against a running installation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg2
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from shared.config import Settings
from tests.conftest import open_folder
from tests.e2e import dcmtk
from tests.e2e.certificates import Authority
from tests.integration.installation import Installation, free_port
from tests.unit.shared.imaging.dicom.builders import make_image, save

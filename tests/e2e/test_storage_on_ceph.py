"""The storage contract on a real Ceph."""

import pytest

from tests.contract.test_storage import S3Contract
from tests.e2e.ceph import Ceph

pytestmark = pytest.mark.e2e


class TestCeph(S3Contract):
    """Ceph's RADOS gateway, started by the fixture `ceph`."""

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls, ceph: Ceph) -> str:
        return ceph.endpoint

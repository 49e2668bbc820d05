from pathlib import Path

import pytest

from functions.demo import demo_settings


def test_the_demo_touches_nothing_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    production = {
        "DATABASE_URL": "postgresql://production/hounsfield",
        "STORAGE_URL": "s3://production",
        "MODEL_URL": "http://production",
        "MODEL_URLS": '{"brain-tumor-detection": "http://production"}',
        "PUBLIC_URL": "http://production",
        "JWKS_URL": "http://production",
        "SIGNING_KEY_FILE": "/production.pem",
        "DATA_DIR": "/production",
        "ADMIN_EMAIL": "chief@production.example",
    }
    for name, value in production.items():
        monkeypatch.setenv(f"HOUNSFIELD_{name}", value)
    settings = demo_settings(tmp_path)
    assert settings.data_dir == tmp_path
    assert "production" not in settings.model_dump_json()
    assert settings.database_url is None

"""`hounsfield demo`: the main job from end to end, through the public API only."""

import os
import secrets
from pathlib import Path

from rich.console import Console

from functions.local import LocalStack
from functions.printing import outcome, safe, show_findings, wait_with_progress
from shared.client import CallFailed, Client, Study
from shared.config import Settings, load_settings
from shared.imaging.modality import MODALITIES
from shared.imaging.synthetic import synthetic_study

REAL_CASE = "brain3d/BraTS2021_01657"
REAL_NAME = "BraTS 2021 case 01657 (real, public, not seen in training)"
SYNTHETIC_NAME = "synthetic study: real anatomy (MNI152 template) with a lesion drawn in"
SHOWN = {
    "mask": "tumour-mask.nii.gz",
    "overlay": "overlay.png",
    "overlay-montage": "overlay-montage.png",
    "report-html": "report.html",
    "report-pdf": "report.pdf",
}


def demo_settings(data_dir: Path) -> Settings:
    """An installation of its own under `data_dir`: whatever the environment names as in use elsewhere stays untouched."""
    level = os.environ.get("HOUNSFIELD_LOG_LEVEL", "ERROR")
    named = (
        "database_url",
        "jwks_url",
        "keys_dir",
        "mail_dir",
        "model_url",
        "oidc_issuer",
        "public_url",
        "smtp_url",
        "storage_url",
        "tls_cert_file",
        "tls_key_file",
    )
    own: dict[str, object] = {
        **dict.fromkeys(named),
        "model_urls": {},
        "admin_email": None,
        "allow_registration": True,
    }
    # Copied, not overruled: a dictionary that is given would be merged with the environment's.
    return load_settings(data_dir=data_dir, port=0, log_level=level).model_copy(update=own)


def run_demo(settings: Settings, output: Path, keep: bool, console: Console) -> None:
    """Start, submit, wait, show, save, stop."""
    output.mkdir(parents=True, exist_ok=True)
    console.print("Starting PostgreSQL, the model server and all functions …")
    with LocalStack(settings) as stack:
        console.print(f"Running at {stack.url}", highlight=False)
        title, files = demo_files(output)
        console.print(f"Sending a {title}")
        with Client(stack.url) as client:
            _log_in(client)
            study = client.submit_mri(files, {"duplicate": "true"})
            study = wait_with_progress(console, client, study.id)
            show_findings(console, study)
            _save(client, study, output, console)
        console.print("[bold]Demo models, trained on small public data. Not for clinical use.[/]")
        if keep:
            console.print(f"Still running at {stack.url}; Ctrl-C ends it.", highlight=False)
            stack.wait()


def demo_files(folder: Path) -> tuple[str, list[Path]]:
    """A title, and the four sequences: a real case where HOUNSFIELD_DATA has one, else a synthetic study."""
    data = os.environ.get("HOUNSFIELD_DATA")
    case = Path(data) / REAL_CASE if data else None
    if case is not None and case.is_dir():
        return REAL_NAME, [case / f"{case.name}_{modality}.nii.gz" for modality in MODALITIES]
    made = synthetic_study(folder / "synthetic-input")
    return SYNTHETIC_NAME, [made[modality] for modality in MODALITIES]


def _log_in(client: Client) -> None:
    """A fresh account for every demo, so that no password is kept anywhere."""
    name, password = f"demo-{secrets.token_hex(4)}@example.org", secrets.token_urlsafe(18)
    client.register(name, password)
    client.login(name, password)


def _save(client: Client, study: Study, output: Path, console: Console) -> None:
    if study.results is None:
        raise CallFailed(outcome(study))
    for artifact in study.results.artifacts:
        if artifact.role in SHOWN:
            path = client.download(artifact.url, output / SHOWN[artifact.role])
            console.print(f"{safe(artifact.role):<16} {safe(path)}", highlight=False)

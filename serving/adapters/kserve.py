"""`python -m serving.adapters.kserve`: serves a catalogue by KServe, REST v2, one process."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.adapters.process import end_with_parent, limit_thread_pools
from serving.predictors.package import InvalidPackage
from shared.config import load_settings
from shared.telemetry.logs import configure_logs


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve until a signal, or the parent's end."""
    options = _parser().parse_args(arguments)
    if options.parent_pid is not None:
        end_with_parent(options.parent_pid)
    settings = load_settings()
    limit_thread_pools(settings.threads)
    configure_logs(settings.log_level, settings.log_format)
    # After the thread limits, which NumPy reads as it is imported; and --help answers at once.
    from serving.adapters.kserve_server import serve

    try:
        serve(
            settings,
            catalogue=options.catalogue or settings.catalogue_dir,
            host=options.host,
            port=options.port,
            only=options.models,
            preload=options.preload,
        )
    except InvalidPackage as error:
        sys.exit(error.detail)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.adapters.kserve", description=__doc__)
    parser.add_argument(
        "--catalogue", type=Path, help="folder of model packages; default HOUNSFIELD_CATALOGUE_DIR"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to bind (default: %(default)s)")
    parser.add_argument("--models", type=_names, help="comma-separated names; default all of the catalogue")
    parser.add_argument(
        "--preload", action="store_true", help="load every model after the start, not at first use"
    )
    parser.add_argument("--parent-pid", type=int, help="end when this parent process is gone")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()

"""A program that uploads one file and prints the upload's id, for tests that kill it."""

import sys
from pathlib import Path

from shared.client import Client, Sending


def main(url: str, token: str, file: str, state: str) -> None:
    """Go on with what an earlier life began."""
    sending = Sending(parallel=2, resume=True, state_dir=Path(state))
    with Client(url, token) as client:
        sys.stdout.write(client.upload(file, sending).id)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The `hounsfield` command: a module for each group of subcommands, put together in `commands`."""

import signal
import sys


def main() -> None:
    """Run the command. Loading it takes a moment, in which Ctrl-C is no error either."""
    try:
        from functions.cli.commands import run_command

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        raise SystemExit(128 + signal.SIGINT) from None

"""The command `nash`: look at runs and get networks out of them.

nash show WORKDIR
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from nash_jax.runs.show import show


def main(argv: Sequence[str] | None = None) -> None:
    """Run one subcommand; whatever is wrong is one line."""
    parser = argparse.ArgumentParser(prog="nash", description="Look at runs of nash_jax.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("show", help="a run in the terminal, also while it goes on")
    command.add_argument("workdir", type=pathlib.Path)
    command.set_defaults(run=lambda args: show(args.workdir))

    args = parser.parse_args(argv)
    try:
        args.run(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()

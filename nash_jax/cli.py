"""The command `nash`: look at runs and get networks out of them.

nash show WORKDIR
nash compare WORKDIR WORKDIR --html=compare.html
nash report WORKDIR --out=report.html
nash pictures WORKDIR --out=FOLDER --format=png
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from nash_jax.runs.compare import compare
from nash_jax.runs.files import WriteError
from nash_jax.runs.report import FORMATS, pictures, report
from nash_jax.runs.show import show


def main(argv: Sequence[str] | None = None) -> None:
    """Run one subcommand; whatever is wrong is one line."""
    parser = argparse.ArgumentParser(prog="nash", description="Look at runs of nash_jax.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("show", help="a run in the terminal, also while it goes on")
    command.add_argument("workdir", type=pathlib.Path)
    command.set_defaults(run=lambda args: show(args.workdir))

    command = commands.add_parser("compare", help="several runs side by side")
    command.add_argument("workdirs", type=pathlib.Path, nargs="+", metavar="workdir")
    command.add_argument("--html", type=pathlib.Path, help="a file to write the same to, as a page")
    command.set_defaults(run=lambda args: compare(args.workdirs, args.html))

    command = commands.add_parser("report", help="a run as one HTML file, also while it goes on")
    command.add_argument("workdir", type=pathlib.Path)
    command.add_argument("--out", type=pathlib.Path, help="the file; default: WORKDIR/report.html")
    command.set_defaults(run=lambda args: print(report(args.workdir, args.out)))

    command = commands.add_parser("pictures", help="the charts and networks of a run, for papers")
    command.add_argument("workdir", type=pathlib.Path)
    command.add_argument("--out", type=pathlib.Path, required=True, help="the folder for them")
    command.add_argument("--format", choices=FORMATS, default="svg")
    command.set_defaults(
        run=lambda args: print(*pictures(args.workdir, args.out, args.format), sep="\n")
    )

    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (ValueError, WriteError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()

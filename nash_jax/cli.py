"""The command `nash`: search, look at runs and get networks out of them.

nash search --dataset=digits --preset=digits
nash benchmark --methods=darts,enas --datasets=digits
nash show WORKDIR [--json]
nash report WORKDIR --out=report.html
nash pictures WORKDIR --out=FOLDER --format=svg|png
nash compare WORKDIR WORKDIR --html=compare.html
nash rank --dataset=digits --space=nb201 --proxy=epochs=3 --proxy=channels=8
nash reproduce WORKDIR --out=NEW_WORKDIR
nash card WORKDIR WORKDIR --out=card.md
nash export WORKDIR --format=weights|orbax|flax|stablehlo|onnx
nash predict WORKDIR IMAGES...
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from nash_jax import launching
from nash_jax.benchmark import command as benchmark
from nash_jax.export.export import FORMATS, export
from nash_jax.export.predict import predict
from nash_jax.jax_settings import check_devices
from nash_jax.ranking import run_rank_command
from nash_jax.record.files import WriteError, write_atomically
from nash_jax.reporting.card import card
from nash_jax.reporting.compare import compare
from nash_jax.reporting.report import PICTURE_FORMATS, pictures, report
from nash_jax.reporting.show import as_json, show
from nash_jax.runs.config import read_run
from nash_jax.runs.tables import compare_tables, is_of_table
from nash_jax.text import escape_what_cannot_be_shown, one_line
from nash_jax.troubleshooting import more_on


def main(argv: Sequence[str] | None = None) -> None:
    """Run one subcommand; whatever is wrong is one line."""
    parser = argparse.ArgumentParser(prog="nash", description="Search, and look at runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("search", help="begin a search, or go on with one; --help lists its flags")
    commands.add_parser("benchmark", help="methods beside random networks; --help lists its flags")
    commands.add_parser("rank", help="how well proxies order networks; --help lists its flags")
    words = sys.argv[1:] if argv is None else list(argv)

    command = commands.add_parser("show", help="a run in the terminal, also while it goes on")
    command.add_argument("workdir", type=_path)
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_show)

    command = commands.add_parser("export", help="a network for other programs")
    command.add_argument("workdir", type=_path)
    command.add_argument("--format", choices=FORMATS, required=True)
    command.add_argument("--candidate", default="final", help="its name; final, if not given")
    command.add_argument("--out", type=_path, help="new folder; else CANDIDATE-FORMAT here")
    command.set_defaults(run=_export)

    command = commands.add_parser("predict", help="the classes of image files")
    command.add_argument("workdir", type=_path)
    command.add_argument("images", type=_path, nargs="+")
    command.add_argument("--candidate", default="final", help="its name; final, if not given")
    command.add_argument("--top", type=int, default=3, help="how many classes to tell")
    command.set_defaults(run=_predict)
    command = commands.add_parser("compare", help="several runs side by side")
    command.add_argument("workdirs", type=_path, nargs="+", metavar="workdir")
    command.add_argument("--html", type=_path, help="a file to write the same to, as a page")
    command.add_argument("--png", type=_path, help="of searches in a table: the picture")
    command.set_defaults(run=_compare)

    command = commands.add_parser("report", help="a run as one HTML file, also while it goes on")
    command.add_argument("workdir", type=_path)
    command.add_argument("--out", type=_path, help="the file; default: WORKDIR/report.html")
    command.set_defaults(run=lambda args: print(report(read_run(args.workdir), args.out)))

    command = commands.add_parser("pictures", help="the charts and networks of a run, for papers")
    command.add_argument("workdir", type=_path)
    command.add_argument("--out", type=_path, required=True, help="the folder for them")
    command.add_argument("--format", choices=PICTURE_FORMATS, default="svg")
    command.set_defaults(
        run=lambda args: print(*pictures(read_run(args.workdir), args.out, args.format), sep="\n")
    )

    command = commands.add_parser("card", help="best practices of a paper's appendix, filled in")
    command.add_argument("workdirs", type=_path, nargs="+", metavar="workdir")
    command.add_argument("--out", type=_path, help="a file for it; default: the terminal")
    command.set_defaults(run=_card)

    command = commands.add_parser("reproduce", help="a run made again, and what agrees with it")
    command.add_argument("workdir", type=_path)
    command.add_argument("--out", type=_path, help="a new folder; default: WORKDIR-again")
    command.add_argument("--dataset", default="", help="where its data or table are now")
    command.add_argument("--model_0", default="", help="where its first network's file is now")
    command.add_argument("--workers", type=int, default=0, help="children side by side on CPU")
    command.set_defaults(
        run=lambda args: launching.reproduce_command(
            args.workdir, args.out, args.dataset, args.model_0, args.workers
        )
    )

    escape_what_cannot_be_shown()
    try:
        if words[:1] == ["search"]:  # its flags are absl's
            launching.run_search_command(words[1:])
        elif words[:1] == ["benchmark"]:
            benchmark.main("nash benchmark", words[1:])
        elif words[:1] == ["rank"]:
            run_rank_command(words[1:])
        else:
            args = parser.parse_args(words)
            args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, like head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the exit
        sys.exit(1)
    except (ValueError, WriteError) as error:
        sys.exit(f"error: {error}{more_on(str(error))}")
    except OSError as error:
        sys.exit(
            f"error: {error.filename}: {error.strerror}"
            if error.filename
            else f"error: {one_line(error)}"
        )


def _path(word: str) -> pathlib.Path:
    """A path of the user's: no shell makes a home of the ~ in --out=~/net."""
    return pathlib.Path(os.path.expanduser(word))


def _card(args: argparse.Namespace) -> None:
    for workdir in filter(is_of_table, args.workdirs):
        raise ValueError(
            f"a card is of runs that train; {workdir} is a search in a table; see its result.json"
        )
    text = card([*map(read_run, args.workdirs)])
    if args.out:
        write_atomically(args.out, text.encode(errors="backslashreplace"))
    else:
        print(text, end="")


def _compare(args: argparse.Namespace) -> None:
    in_tables = [is_of_table(workdir) for workdir in args.workdirs]
    if any(in_tables):
        if not all(in_tables) or args.html:
            raise ValueError(
                "searches in a table are compared with each other, and drawn with --png; got "
                + ("--html" if args.html else "other runs too")
            )
        compare_tables(args.workdirs, args.png)
    elif args.png:
        raise ValueError("png is for searches in a table; got other runs; take --html")
    else:
        compare([*map(read_run, args.workdirs)], args.html)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _show(args: argparse.Namespace) -> None:
    run = read_run(args.workdir)
    if args.json:
        print(json.dumps(as_json(run)))
    else:
        show(run)


def _export(args: argparse.Namespace) -> None:
    check_devices()
    print(export(args.workdir, args.format, args.candidate, args.out, _note))


def _predict(args: argparse.Namespace) -> None:
    """Print a line per image, or an error if it cannot be read; after errors the status is 1."""
    check_devices()
    failed = False
    for seen in predict(args.workdir, args.images, args.candidate, args.top, _note):
        if seen.error:
            failed = True
            print(f"error: {seen.path} is no image that can be read: {seen.error}", file=sys.stderr)
            continue
        if seen.warning:
            _note(f"{seen.path}: {seen.warning}")
        classes = "  ".join(f"{c} ({p:.1%})" for c, p in zip(seen.classes, seen.probabilities))
        print(f"{seen.path}: {classes}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Searches as commands: a new workdir, and one run from its start to its end.

`nash search` and all launchers of `experiments/` share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import rich.console
from absl import app, flags, logging

from nash_jax.data import Dataset
from nash_jax.machine import keep_freed_memory, num_cores, seconds_since_start
from nash_jax.record.workdir import CONFIG_FILE, read_config
from nash_jax.reporting import Event, Note, Progress, Tell, TensorBoard, plain, several
from nash_jax.runs import (
    Config,
    Result,
    StoppedError,
    WriteError,
    check_cache,
    check_devices,
    check_precision,
    dataset_of,
    execute,
    open_run,
    plan,
    preset,
    provenance,
    reproduce,
    use_cache,
)
from nash_jax.runs.config import read_run
from nash_jax.runs.places import Place
from nash_jax.runs.tables import described, is_of_table, run_in_table
from nash_jax.search_flags import (
    More,
    define_flags,
    given_settings,
    help_text,
    parse,
)
from nash_jax.text import escape_what_cannot_be_shown
from nash_jax.training import bfloat16_seconds_per_float32, faster_flags
from nash_jax.troubleshooting import more_on

FLAGS = flags.FLAGS
#: The edge to which a planned search resizes the images of a folder, if none is given.
PLANNED_IMAGE_SIZE = 32


def _config_in(workdir: pathlib.Path, given: dict[str, Any]) -> Config | None:
    """The settings of the run in a folder, with those that are given; None if there is no run."""
    if not (workdir / CONFIG_FILE).exists():
        return None
    config: Config = read_run(workdir).config
    return config.replace(**given)


@contextlib.contextmanager
def workdir_from_flags(name: str = "") -> Iterator[pathlib.Path]:
    """The folder that was asked for, or the first of runs/NAME-1, -2, ... that is not there.

    The latter is made at once, so that no other launch takes it too, and goes if it stays empty.

    Args:
      name: by default that of the data set.
    """
    if FLAGS.workdir:
        yield pathlib.Path(os.path.expanduser(FLAGS.workdir))
        return
    path = _new_folder(name or data_name())
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # it has the run
            path.rmdir()


def _new_folder(name: str) -> pathlib.Path:
    numbered = (pathlib.Path("runs", f"{name}-{number}") for number in itertools.count(1))
    if _lies_in_data(pathlib.Path("runs")):
        return next(numbered)  # `perform` says so
    # Errors about a place are raised where the folder is needed.
    with contextlib.suppress(OSError, ValueError):
        pathlib.Path("runs").mkdir(exist_ok=True)
        for path in numbered:
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    return next(numbered)


def _lies_in_data(path: pathlib.Path) -> bool:
    """Whether a path is in the folder of the images."""
    kind, _, rest = FLAGS.dataset.partition(":")
    images = pathlib.Path(os.path.expanduser(rest))
    return kind == "folder" and bool(rest) and path.resolve().is_relative_to(images.resolve())


def data_name() -> str:
    """The data set in a folder's name: `digits`, `tfds-cifar10`, `npz-cifar10`, `folder-pets`."""
    if FLAGS.table:
        return pathlib.Path(FLAGS.table).stem
    kind, _, rest = FLAGS.dataset.partition(":")
    name = rest.replace("/", "-").replace(":", "-") if kind == "tfds" else pathlib.Path(rest).stem
    return f"{kind}-{name}" if name else kind


@contextlib.contextmanager
def exiting_on_errors(workdir: pathlib.Path, resume: str = "") -> Iterator[None]:
    """End the program by a line for errors that users must fix; say how to resume, if it helps.

    Args:
      workdir: of the run.
      resume: how to resume it, where that is not this command with the folder.
    """
    try:
        with stopping_on_signals(workdir, resume):
            check_devices()
            yield
    except ValueError as error:
        sys.exit(f"error: {error}{more_on(str(error))}")
    except (StoppedError, WriteError) as error:
        resumable = isinstance(error, WriteError) or error.resumable
        how = f"\n{resume or resume_command(workdir)}" if resumable else ""
        sys.exit(f"error: {error}{more_on(str(error))}{how}")


def dataset_from_flags(config: Config, note: Callable[[str], None]) -> Dataset:
    """The data; `note` is told what users should know of them."""
    return dataset_of(config, note, FLAGS.data_dir)


def perform(
    config: Config,
    workdir: pathlib.Path,
    console: rich.console.Console,
    dataset: Dataset | None = None,
    quiet: bool = False,
    planned: dict[str, Any] | None = None,
    more_minutes: float = 0.0,
    only_search: bool = False,
    since: float = 0.0,
) -> Result:
    """Begin a run, or go on with it, as the flags say; or quietly.

    If settings are given that are to be `planned`, all others follow from the minutes and the
    machine. A run that is there may get more minutes. Its time begins `since` so many seconds after
    the process did: those before are of other runs.
    """
    if _lies_in_data(workdir) and not (workdir / CONFIG_FILE).exists():
        raise ValueError(
            f"workdir must not lie in the folder of the images, where it would be a class; got "
            f"{workdir}; give another --workdir, or begin the search elsewhere"
        )
    workers, devices = workers_from_flags(config), devices_from_flags()
    place = Place(FLAGS.executor, devices, workers, FLAGS.per_device, FLAGS.address)
    place.check(config)
    check_precision(config, devices)
    if math.isnan(FLAGS.checkpoint_seconds):
        raise ValueError("checkpoint_seconds must be a number; got nan; 60 is usual")
    cache = cache_from_flags()
    origin = provenance(command())
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(tell_from_flags(workdir, console, quiet))

        def note(text: str) -> None:
            tell(Note(text))

        stack.enter_context(place.joined(config, note))
        if dataset is None:
            dataset = dataset_from_flags(config, note)
        if planned is not None:
            recipe = FLAGS.recipe if FLAGS["recipe"].present else ""
            threads = workers * config.threads_per_child
            free = FLAGS.executor == "auto" and place.on_cpu and not FLAGS["workers"].present
            here = free and place.is_like_a_worker(threads)
            room = place.room(config)
            spent = seconds_since_start() - since
            found = plan(
                dataset, workers=room, recipe=recipe, in_process=here, spent=spent, **planned
            )
            config = found.config
            note(found.text)
            if found.in_process:
                workers, place = 1, dataclasses.replace(place, workers=1, executor="serial")
        elif config.minutes and FLAGS["preset"].present:
            note(
                f"the sizes are those of preset {FLAGS.preset}; {config.minutes:g} minutes end its "
                "search early and decide how long the final training is; without --preset, the "
                "sizes too are planned by the time"
            )
        with open_run(
            config,
            workdir,
            origin,
            note,
            dataset,
            checkpoint_seconds=FLAGS.checkpoint_seconds,
            keep_all=FLAGS.keep == "all",
        ) as opened:
            warn_of_slow_precision(config)
            if cache is not None:
                use_cache(cache)
            return execute(
                opened,
                tell,
                workers,
                devices,
                FLAGS.per_device,
                FLAGS.baseline,
                spent=seconds_since_start() - since,
                more_minutes=more_minutes,
                only_search=only_search,
                executor=place.executor,
                address=place.address,
            )


def command() -> list[str]:
    """The words by which this process was begun."""
    program, *words = sys.orig_argv[1:]
    if pathlib.Path(program).name == "nash":
        return ["nash", *words]
    return ["python", program, *words]


def resume_command(workdir: pathlib.Path) -> str:
    """How to go on with a run: this command, with the folder."""
    first, *rest = command()
    words, given, begun = iter(rest), [first], list[str]()
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in ("workdir", "minutes", "hours"):
            given.append(word)
            continue
        if not equals:
            value = next(words, "")  # it is the next word
        if value.strip().startswith("+") and name != "workdir":
            # More time is recorded, and is not to be given again: what the run began with is.
            begun = [f"--minutes={repr(read_run(workdir).config.minutes).removesuffix('.0')}"]
        elif name != "workdir":
            given.append(f"--{name}={value}")
    return "resume with: " + shlex.join([*given, *begun, f"--workdir={workdir}"])


@contextlib.contextmanager
def stopping_on_signals(workdir: pathlib.Path, resume: str = "") -> Iterator[None]:
    """On the first SIGINT or SIGTERM, exit and say how to resume; on a second, exit at once."""

    def stop(number: int, _: Any) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda number, _: os._exit(128 + number))
        raise _SignalledError(number)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _SignalledError as error:
        print(
            f"stopped by {signal.Signals(error.number).name}; {resume or resume_command(workdir)}",
            file=sys.stderr,
        )
        sys.exit(128 + error.number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _SignalledError(BaseException):
    """Raised where the main thread is when a signal comes; nothing but the launcher catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def begin(argv: list[str]) -> None:
    """What every launcher does first."""
    escape_what_cannot_be_shown()
    if len(argv) > 1:
        sys.exit(f"error: flags begin with --; got {argv[1]!r}; --help lists them")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
    compile_faster()
    keep_freed_memory()


def compile_faster() -> None:
    """On CPU, have this process compile in two thirds of the time; call it before JAX is used."""
    os.environ["XLA_FLAGS"] = faster_flags(os.environ.get("XLA_FLAGS", ""))


@contextlib.contextmanager
def tell_from_flags(
    workdir: pathlib.Path, console: rich.console.Console, quiet: bool
) -> Iterator[Tell]:
    """Who is told how the run goes."""
    more = [TensorBoard(workdir)] if FLAGS.tensorboard else []
    match "quiet" if quiet else FLAGS.progress:
        case "rich":
            with Progress(console) as progress:
                yield several(progress, *more)
        case "plain":
            yield several(plain(functools.partial(print, flush=True)), *more)
        case _:
            yield several(_warn, *more)


def _warn(event: Event) -> None:
    if isinstance(event, Note):
        logging.warning("%s", event.text)


def workers_from_flags(config: Config) -> int:
    """How many children to train side by side on CPU; 0, of a cluster: as many as it can."""
    if FLAGS.workers < 0:
        raise ValueError(f"workers must be >= 0; got {FLAGS.workers}")
    if FLAGS.executor == "ray":
        return int(FLAGS.workers)
    cores = num_cores()
    most = max(1, cores // config.threads_per_child)
    if FLAGS.workers > most:
        logging.warning(
            "workers=%d would need more than the %d cores of this machine, with threads_per_child="
            "%d; %d are taken", FLAGS.workers, cores, config.threads_per_child, most
        )  # fmt: skip
    return min(FLAGS.workers or most, most)


def devices_from_flags() -> list[jax.Device]:
    """The devices to train children on: those with the given numbers, or all."""
    devices = jax.local_devices()
    numbers = FLAGS.devices
    if not all(word.isdecimal() and int(word) < len(devices) for word in numbers):
        raise ValueError(
            f"devices must be numbers from 0 to {len(devices) - 1}, of the {devices[0].platform} "
            f"devices of this machine; got {','.join(numbers)}"
        )
    return [devices[int(word)] for word in dict.fromkeys(numbers)] or devices


def cache_from_flags() -> pathlib.Path | None:
    """The folder that keeps compiled programs, checked: the one given, or the user's own."""
    if FLAGS.cache_dir == "none":
        return None
    if FLAGS.cache_dir:
        folder = pathlib.Path(os.path.expanduser(FLAGS.cache_dir))
        check_cache(folder)
        return folder
    return _user_cache()


def _user_cache() -> pathlib.Path | None:
    """The user's own folder of compiled programs; None, with a warning, if there can be none."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home, "nash_jax")
        check_cache(folder)
    except (RuntimeError, ValueError) as error:  # the former where the user has no home
        logging.warning(
            "compiled programs are not kept: %s; give --cache_dir", str(error).rstrip(".")
        )
        return None
    return folder


def warn_of_slow_precision(config: Config) -> None:
    """A warning if the precision that was asked for is slower than float32 on this machine."""
    if (
        config.recipes.training.precision == "bfloat16"
        and (ratio := bfloat16_seconds_per_float32()) > 1
    ):
        logging.warning(
            "bfloat16 is slower than float32 on this machine's %s: a convolution and its gradient "
            "take %.1f times as long", jax.devices()[0].device_kind, ratio
        )  # fmt: skip


def search(argv: list[str]) -> None:
    """One search, from its flags to its last line."""
    begin(argv)
    console = rich.console.Console(soft_wrap=True)
    with workdir_from_flags() as workdir, exiting_on_errors(workdir):
        given = given_settings()
        if FLAGS.table is not None:
            _search_table(workdir, given)
            return
        for name in ("seconds", "repeats", "table_data", "table_epochs"):
            if FLAGS[name].present:
                raise ValueError(f"{name} is for a search in a table; got no --table; give one")
        more = float(given.pop("minutes")) if isinstance(given.get("minutes"), More) else 0.0
        timed = "minutes" in given and not FLAGS["preset"].present
        known = _config_in(workdir, given) if timed or more else None
        if more and known is None:
            raise ValueError(
                f"minutes=+{more:g} gives a run more time; {workdir} has no run; give the "
                "--workdir of one"
            )
        planning = timed and known is None
        if planning and FLAGS.dataset.startswith("folder:") and not FLAGS["image_size"].present:
            given["image_size"] = PLANNED_IMAGE_SIZE
        config = known or preset(FLAGS.preset, FLAGS.recipe, **given)
        planned = given if planning else None
        result = perform(config, workdir, console, planned=planned, more_minutes=more)
    if FLAGS.progress == "quiet":
        return
    place = shlex.quote(str(workdir))
    lines = [f"to look at it: nash report {place}"]
    if result.shares:
        shares = ", ".join(f"{what} {share:.0%}" for what, share in result.shares.items())
        lines.insert(0, f"the workers' time in the search: {shares}")
    accuracy = f"test accuracy {result.best.estimate.accuracy:.2%}"
    for line in (*lines, f"{workdir}: {accuracy}, {result.seconds:.0f} s in all"):
        console.print(line, markup=False, highlight=False)


def reproduce_command(
    workdir: pathlib.Path,
    out: pathlib.Path | None = None,
    dataset: str = "",
    model_0: str = "",
    workers: int = 0,
) -> None:
    """`nash reproduce`: see `runs.reproduce`; the exit status is 1 if anything differs."""
    resume = f"resume with: {shlex.join(command())}"
    console = rich.console.Console(soft_wrap=True)
    then = "" if is_of_table(workdir) else str(read_config(workdir).get("XLA_FLAGS"))
    if faster_flags(then) == then:  # as it was begun by a command
        compile_faster()
    keep_freed_memory()
    with exiting_on_errors(workdir, resume), Progress(console) as progress:
        if workers < 0:
            raise ValueError(f"workers must be >= 0; got {workers}; 0 is one per core")
        if (cache := _user_cache()) is not None:
            use_cache(cache)
        found = reproduce(workdir, out, dataset, model_0, progress, workers or None, command())
    console.print(str(found), markup=False, highlight=False)
    if found.first is not None:
        sys.exit(1)


def _search_table(workdir: pathlib.Path, given: dict[str, Any]) -> None:
    """Searches in a table, from the flags to the last line."""
    if "minutes" in given:
        raise ValueError(
            f"minutes is for searches that train; got {given['minutes']:g} with a table; give "
            "--seconds, the table's clock"
        )
    if given.get("trial_order", "proposal") != "proposal":
        raise ValueError(
            "trial_order is for searches that train; got arrival with a table, whose trials arrive "
            "in the order of their proposals; leave it out"
        )
    if FLAGS.repeats < 0:
        raise ValueError(f"repeats must be >= 0; got {FLAGS.repeats}")
    config, repeats = Config().replace(**given), FLAGS.repeats or 1
    found = run_in_table(
        config,
        given,
        workdir,
        FLAGS.table,
        data=FLAGS.table_data,
        epochs=FLAGS.table_epochs,
        seconds=FLAGS.seconds,
        repeats=repeats,
    )
    validation, test = described(found)
    print(f"{repeats} searches, validation accuracy {validation}")
    print(f"{workdir}: test accuracy {test}")


def run_search_command(argv: list[str]) -> None:
    """`nash search`.

    Args:
      argv: the words behind it.
    """
    define_flags()
    if {"-h", "--help", "-help"} & set(argv):
        print(help_text())
        return
    app.run(search, ["nash search", *argv], flags_parser=parse)

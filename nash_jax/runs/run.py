"""A run from its config to its result: check, open, execute."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from nash_jax.architecture.serialization import to_dict
from nash_jax.data import Dataset, shared
from nash_jax.estimation import Images, Tools
from nash_jax.execution import Executor, Serial, memory_limit
from nash_jax.jax_settings import check_devices
from nash_jax.machine import num_cores
from nash_jax.record.provenance import provenance
from nash_jax.record.settings import fingerprint
from nash_jax.record.workdir import DATA_NAME, FIRST_NETWORK, Memory, Workdir, open_workdir
from nash_jax.reporting.events import Begun, Epoch, Load, Note, Tell, quiet
from nash_jax.reporting.view import shares_of_time
from nash_jax.runs.config import Config, settings_of
from nash_jax.runs.deadline import BASELINE, FINAL
from nash_jax.runs.engine import Engine
from nash_jax.runs.places import Place
from nash_jax.runs.problem import dataset_of, prepare, searches
from nash_jax.runs.result import Result, write_result
from nash_jax.runs.spaces import MorphsSettings
from nash_jax.runs.trials import Run, Trials
from nash_jax.search import Planned, Trial
from nash_jax.training import Lengths


@contextlib.contextmanager
def open_run(
    config: Config,
    workdir: pathlib.Path | None = None,
    origin: dict[str, Any] | None = None,
    note: Callable[[str], None] = lambda text: None,
    dataset: Dataset | None = None,
    checkpoint_seconds: float = 60.0,
    keep_all: bool = False,
) -> Iterator[Run]:
    """Check everything that a user may have got wrong, then begin or resume a run in a workdir.

    No other process can work on the folder within this context.

    Args:
      config: decides the result; the same config gives the same result.
      workdir: a new or empty folder, or that of an earlier run with the same config. Without one
        nothing is written.
      origin: what `provenance` says, to be kept beside the config.
      note: is told what was damaged or has changed in the workdir.
      dataset: the data; by default what the config names.
      checkpoint_seconds: between two writings of an unfinished training.
      keep_all: keep the weights of all trials, not only of those that were the best so far.

    Raises:
      ValueError: for anything wrong with the config, the data or the workdir.
      WriteError: if the workdir cannot be written.
    """
    dataset = dataset_of(config, note) if dataset is None else dataset
    problem = prepare(config, dataset)
    for finding in shared(dataset.name, problem.train, problem.valid, "validation"):
        note(finding)
    contents: dict[str, Any] = {"data": dataset.fingerprint()}
    if dataset.class_names:
        contents["classes"] = list(dataset.class_names)
    if dataset.pixel_range:
        contents["pixel_range"] = list(dataset.pixel_range)
    if problem.start.checksum:  # a file is known by its content, wherever it is
        contents |= {
            "network": problem.start.checksum,
            "model_0": problem.start.name,
        }
    sizes = {"train": len(problem.train), "validation": len(problem.valid)}
    sizes |= {"test": len(dataset.test)}
    first = {}
    if not isinstance(config.space, MorphsSettings):  # its genotypes are the architectures
        first[FIRST_NETWORK] = to_dict(problem.model_0)
    settings = settings_of(config)
    opened = Run(config, problem, dataset.test, fingerprint(settings.given, contents), Memory())
    if workdir is None:
        yield opened
        return
    with open_workdir(
        workdir,
        settings,
        contents,
        {**(origin or {}), "limits": dict(problem.limits), "images": sizes, **first},
        note,
        checkpoint_seconds=checkpoint_seconds,
        keep_all=keep_all,
    ) as record:
        yield dataclasses.replace(opened, record=record)


def check_precision(config: Config, devices: Sequence[jax.Device] | None) -> None:
    """Raises `ValueError` if the devices do not support the precision of the config."""
    platform = (devices or jax.local_devices())[0].platform
    if config.recipes.training.precision == "tf32" and platform == "cpu":
        raise ValueError(
            "precision tf32 is for GPUs; got a CPU, which has no such numbers; take float32"
        )


def execute(
    run: Run,
    tell: Tell = quiet,
    workers: int = 1,
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    baseline: bool = False,
    spent: float = 0.0,
    more_minutes: float = 0.0,
    only_search: bool = False,
    executor: str = "auto",
    address: str = "auto",
) -> Result:
    """Search, train the best network to the end, test it, and write everything to the workdir.

    On CPU trials are made in processes that are spawned: a program that calls this must be
    importable, with `if __name__ == "__main__":` before what it does.

    Args:
      run: what to do.
      tell: is told how it goes.
      workers: trials that are made side by side on CPU; changes no result, unless trials count by
        arrival. 0, with Ray: as many as the cluster has room for, also later.
      devices: accelerators to make trials on; by default all of this machine. If their number
        divides the batch size, networks that are trained alone are trained on all devices together;
        the result equals that of one device up to rounding.
      per_device: trials that are made side by side on each of them, where its memory allows.
      baseline: also train model_0 alone, for as many epochs as the best network has been, and judge
        it on the validation images; nothing else changes, and a finished run can do it later.
      spent: seconds that starting and loading have taken before this call; they count as time of
        the run.
      more_minutes: that the run gets beside those of its config. If it was finished, its search
        goes on, if it has steps left, and the final training is made anew, as long as there is
        time; its network takes the place of the earlier one.
      only_search: return the network that the search chose, as it is: nothing is trained to the
        end, and the test set is not looked at. A later call can do both.
      executor: where trials are made: serial, processes, devices or ray; 'auto' is processes on
        CPU, else devices. Those that are `alone` are made in this process.
      address: of a cluster of Ray's: 'auto', the one that this machine is a node of; 'local', a new
        one of this machine alone; HOST:PORT; or ray://HOST:PORT.

    Returns:
      What was found; after an interrupt, the current best.

    Raises:
      KeyboardInterrupt: if it is interrupted before there is a best, or with `only_search`.
      ValueError: if trials cannot be made here, or a baseline would be measured otherwise.
      StoppedError: if the strategy cannot go on, because all trials that it could choose from
        failed, or if the final network cannot be trained.
      WriteError: if the workdir cannot be written.
    """
    config, record = run.config, run.record
    devices = jax.local_devices() if devices is None else devices
    place = Place(executor, devices, workers, per_device, address)
    place.check(config)
    recipes = config.recipes_by_name()
    if baseline and config.recipes.estimator != "training":
        raise ValueError(
            f"baseline is trained, and compares with what is trained; got estimator "
            f"{config.recipes.estimator}; leave baseline out"
        )
    if more_minutes:
        run.deadline.extend(more_minutes)
    planned = [*config.strategy.plan, Planned(FINAL, 0 if only_search else 1)]
    epochs = sum(
        number * (recipes[recipe].epochs if budget is None else round(budget))
        for recipe, number, budget in planned
    )
    known = {name: len(line["train_losses"]) for name, line in record.lines.items()}
    if run.deadline.is_outdated(FINAL):
        del known[FINAL]
    tell(Begun(epochs, known, run.problem.limits))
    if config.trial_order == "arrival":
        tell(Note("trials count by arrival: with other workers the result may be another"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(place.joined(config, lambda text: tell(Note(text))))
        at_once = place.at_once(config)
        executors = _executors(run, tell, place, at_once, lambda name: engine.lengths(name))
        for each in executors:
            stack.callback(each.close)
        engine = Engine(run, tell, Trials(run, tell, *executors, at_once, spent))

        def result(best: Trial, finished: bool) -> Result:
            history = engine.trials.history()
            shares = shares_of_time(history, not place.on_cpu, run.deadline.extended)
            return Result(best, history, engine.trials.elapsed(), shares, finished)

        try:
            best = engine.search()
            if only_search:
                return result(best, finished=False)
            if baseline or run.deadline.is_outdated(BASELINE):
                engine.train_baseline(best)
            final = result(engine.train_to_the_end(best), finished=True)
        except KeyboardInterrupt:
            incumbent = engine.incumbent()
            if incumbent is None or only_search:  # it is not what the search chose
                raise
            return result(incumbent, finished=False)
    if isinstance(record, Workdir):
        write_result(record.path, final)
    return final


def _executors(
    run: Run,
    tell: Tell,
    place: Place,
    at_once: int,
    lengths: Callable[[str], Lengths | None],
) -> tuple[Executor, Executor]:
    """The executor of jobs that need the whole machine, and the executor of all others.

    The second one does `at_once` jobs at the same time.
    """
    config, problem, devices = run.config, run.problem, place.devices
    images = Images(problem.train, problem.valid, run.test)
    together = (
        devices
        if len(devices) > 1 and config.recipes.training.batch_size % len(devices) == 0
        else None
    )
    tools = Tools(
        lambda *epoch: tell(Epoch(*epoch)),
        lambda text: tell(Note(text)),
        run.record.checkpoints,
        memory_limit(config.bounds.max_memory),
        together,
        on_load=lambda *load: tell(Load(*load)),
    )
    alone = Serial(images, dataclasses.replace(tools, lengths=lengths))
    others = dataclasses.replace(tools, devices=None)
    if not searches(config):
        return alone, alone
    return alone, place.executor_of(config, images, others, at_once)


def run_search(
    config: Config | None = None,
    dataset: Dataset | None = None,
    tell: Tell = quiet,
    workers: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    workdir: str | os.PathLike[str] | None = None,
    baseline: bool = False,
    executor: str = "auto",
    address: str = "auto",
) -> Result:
    """Run NASH, by default in memory alone.

    An interrupt (Ctrl-C, or a notebook's stop) ends it with the current best. For processes and
    `if __name__ == "__main__":` see `execute`.

    Args:
      config: the settings; by default the paper's, on the digits.
      dataset: the data; by default what the config names. `data.make_dataset` makes one of
        arrays.
      tell: is told of every epoch and every trial: `plain()`, or a function of yours.
      workers: trials that are made side by side on CPU; by default one per core, of the cluster
        with executor ray.
      devices: accelerators to make trials on; by default all.
      per_device: trials that are made side by side on each of them, where its memory allows.
      workdir: where to keep the run, so that it can be resumed; by default it is not kept.
      baseline: also train model_0 for as many epochs as the best network: see `execute`.
      executor, address: where trials are made: see `execute`.

    Returns:
      The best network, the history and the times.

    Raises:
      KeyboardInterrupt: if it is interrupted before model_0 is trained.
      ValueError, StoppedError, WriteError: as `open_run` and `execute`.
    """
    check_devices()
    config = config or Config()
    folder = None if workdir is None else pathlib.Path(workdir)
    most = 0 if executor == "ray" else max(1, num_cores() // config.threads_per_child)
    devices = jax.local_devices() if devices is None else devices
    check_precision(config, devices)
    place = Place(executor, devices, workers or most, per_device, address)

    named = {} if dataset is None else {DATA_NAME: dataset.name}

    def note(text: str) -> None:
        tell(Note(text))

    with (
        place.joined(config, note),
        open_run(config, folder, {**provenance(), **named}, note, dataset) as opened,
    ):
        return execute(
            opened,
            tell,
            place.workers,
            devices,
            per_device,
            baseline,
            executor=executor,
            address=address,
        )

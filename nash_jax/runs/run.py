"""One run of NASH from a config to a workdir: the order of events, and all input and output."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from nash_jax.architecture import Architecture, chain, count_flops, init, ops
from nash_jax.data import (
    Dataset,
    Examples,
    channel_statistics,
    load_dataset,
    stratified_split,
    subset,
)
from nash_jax.estimation import Seconds, train_and_validate
from nash_jax.runs.checkpoint import save_network
from nash_jax.runs.children import Crew, hire, max_bytes
from nash_jax.runs.config import Config
from nash_jax.runs.pictures import draw_climb, draw_network
from nash_jax.runs.workdir import append_ledger, create_workdir, ledger_line, write_json
from nash_jax.search import Candidate, Proposal, SearchState, hill_climbing_step
from nash_jax.training import check_batch_size


class Reporter(Protocol):
    """Who is told how the run goes. Calls may come from several threads."""

    def start(self, total_epochs: int) -> None:
        """The run begins; `total_epochs` of training lie ahead."""

    def phase(self, what: str) -> None:
        """What follows: 'pretraining', 'step 1 of 5', 'final training'."""

    def epoch(self) -> None:
        """One epoch of some training is done."""

    def candidate(self, line: dict[str, Any]) -> None:
        """A candidate is finished; `line` is its line in the ledger."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ends with.

    Attributes:
      workdir: where everything is.
      best: the network, trained on training and validation set; its estimate is on the test set.
      seconds: the run's duration.
      shares: of the workers' time in the search, what went where: 'compile', 'train', 'evaluate',
        and 'wait', when a worker had nothing to do. Empty if there was no search.
    """

    workdir: pathlib.Path
    best: Candidate
    seconds: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What the search may see of a data set: training and validation images, and model_0."""

    train: Examples
    valid: Examples
    model_0: Architecture


def prepare(config: Config, dataset: Dataset) -> Problem:
    """Split the training images and make model_0 for them. The test set is not looked at.

    Raises:
      ValueError: if the images are too few or too small for the config.
    """
    examples = dataset.train
    if config.max_train_examples:
        examples = subset(examples, config.max_train_examples, config.seed)
    train, valid = stratified_split(examples, config.validation_fraction, config.seed)
    check_batch_size(config.training, len(train))
    normalize = ops.Normalize(*channel_statistics(train.images))
    model_0 = chain(dataset.image_shape, dataset.num_classes, config.widths, normalize)
    if config.max_flops and count_flops(model_0) > config.max_flops:
        raise ValueError(
            f"max_flops must be at least those of model_0, {count_flops(model_0)}; got "
            f"{config.max_flops}; raise it or take smaller widths"
        )
    return Problem(train, valid, model_0)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that has been checked and can begin."""

    config: Config
    workdir: pathlib.Path
    problem: Problem
    test: Examples


def open_run(
    config: Config, workdir: pathlib.Path, provenance: dict[str, Any] | None = None
) -> Run:
    """Check everything that a user may have got wrong, then make the workdir.

    Args:
      config: decides the result; the same config gives the same result.
      workdir: a new or empty folder.
      provenance: versions and machine, to be kept beside the config.

    Raises:
      ValueError: for anything wrong with the config, the data or the workdir.
    """
    dataset = load_dataset(config.dataset)
    problem = prepare(config, dataset)
    create_workdir(workdir)
    write_json(workdir / "config.json", dataclasses.asdict(config) | (provenance or {}))
    return Run(config, workdir, problem, dataset.test)


def execute(
    run: Run,
    reporter: Reporter,
    workers: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Search, train the best network to the end, test it, and write everything to the workdir.

    On CPU the children are trained in processes that are spawned: a program that calls this must
    be importable, with `if __name__ == "__main__":` before what it does.

    Args:
      run: what to do.
      reporter: is told how it goes.
      workers: children that are trained side by side on CPU; does not change the result.
      devices: accelerators to train children on, one each; by default all of this machine.
        Where they divide the batch size, model_0 and the final network are trained on all of them
        together, which agrees with a training on one within rounding.
    """
    start = time.perf_counter()
    config, workdir, problem = run.config, run.workdir, run.problem
    devices = jax.local_devices() if devices is None else devices
    together = devices if len(devices) > 1 and config.batch_size % len(devices) == 0 else None
    children = config.num_steps * config.num_neighbours
    reporter.start(
        config.epochs_pretrain + children * config.epochs_neighbours + config.epochs_final
    )
    climb: list[dict[str, Any]] = []
    spent, stepping = Seconds(), [0.0, 0.0]

    def record(candidate: Candidate, kind: str, step: int) -> None:
        nonlocal spent
        line = ledger_line(candidate, kind, step)
        append_ledger(workdir, line)
        climb.append(line)
        reporter.candidate(line)
        stepping[kind == "child"] = time.perf_counter()
        if kind == "child":
            spent += candidate.estimate.seconds

    data = problem.train, problem.valid
    with hire(config, *data, workers, devices, reporter.epoch) as crew:
        best = search(config, problem, record, reporter, crew, together)
    if devices[0].platform == "cpu":
        worker_seconds = workers * (stepping[1] - stepping[0])
    else:  # compiling goes on beside
        worker_seconds = len(devices) * (stepping[1] - stepping[0])
        spent = dataclasses.replace(spent, compile=0.0)
    shares = _shares(spent, worker_seconds) if children else {}
    reporter.phase("final training")
    best = train_to_the_end(config, problem, best, run.test, reporter, together)
    record(best, "final", config.num_steps)
    (workdir / "best").mkdir()
    save_network(workdir / "best", best.spec, best.variables)
    draw_network(best.spec, workdir / "network.png")
    draw_climb(climb, workdir / "climb.png")
    result = Result(workdir, best, time.perf_counter() - start, shares)
    write_json(
        workdir / "result.json",
        {
            "test_accuracy": best.estimate.accuracy,
            "found_by": best.parent,
            "params": climb[-1]["params"],
            "flops": climb[-1]["flops"],
            "seconds": round(result.seconds, 3),
            "shares": {name: round(share, 4) for name, share in shares.items()},
        },
    )
    return result


def _shares(spent: Seconds, total: float) -> dict[str, float]:
    """What part of the workers' time went where; they wait where they do nothing else."""
    busy = dataclasses.asdict(dataclasses.replace(spent, wait=0.0))
    shares = {name: seconds / total for name, seconds in busy.items()}
    return {**shares, "wait": 1 - sum(shares.values())}


class _Keys(NamedTuple):
    init: jax.Array
    pretrain: jax.Array
    search: jax.Array
    final: jax.Array


def _keys(seed: int) -> _Keys:
    """The random keys of a run's parts."""
    return _Keys(*jax.random.split(jax.random.key(seed), 4))


def search(
    config: Config,
    problem: Problem,
    record: Callable[[Candidate, str, int], None],
    reporter: Reporter,
    crew: Crew,
    devices: Sequence[jax.Device] | None = None,
) -> Candidate:
    """Algorithm 1, lines 9 to 22: from model_0, pretrained, to the best child of the last step.

    Args:
      config: the settings.
      problem: training and validation images and model_0.
      record: called as `record(candidate, kind, step)` for each candidate, in order.
      reporter: is told what is done next, and of every epoch.
      crew: makes the children.
      devices: share the pretraining, if given.
    """
    keys, model_0 = _keys(config.seed), problem.model_0
    reporter.phase("pretraining")
    variables, estimate = train_and_validate(
        model_0,
        init(model_0, keys.init),
        *(keys.pretrain, problem.train, problem.valid, config.epochs_pretrain, config.training),
        on_epoch=lambda _: reporter.epoch(),
        max_bytes=max_bytes(config),
        devices=devices,
    )
    best = Candidate("model_0", None, (), model_0, variables, estimate)
    if estimate.failure:
        raise ValueError(f"model_0 is {estimate.failure}; raise max_memory or take smaller widths")
    record(best, "pretrained", 0)

    def fits(spec: Architecture) -> bool:
        return not config.max_flops or count_flops(spec) <= config.max_flops

    state = SearchState(0, best, keys.search)
    for step in range(1, config.num_steps + 1):
        reporter.phase(f"step {step} of {config.num_steps}")

        def estimate_children(
            best: Candidate, proposals: Sequence[Proposal], step: int = step
        ) -> list[Candidate]:
            children = []
            for child in crew.make(best, proposals):
                record(child, "child", step)
                children.append(child)
            return children

        state, _ = hill_climbing_step(state, config.hill_climbing, estimate_children, fits)
    return state.best


def train_to_the_end(
    config: Config,
    problem: Problem,
    best: Candidate,
    test: Examples,
    reporter: Reporter,
    devices: Sequence[jax.Device] | None = None,
) -> Candidate:
    """Algorithm 1, line 24, and the one look at the test set.

    The best network is trained on the training and the validation set, by all devices if they are
    given, then tested.
    """
    variables, estimate = train_and_validate(
        best.spec,
        best.variables,
        *(
            _keys(config.seed).final,
            problem.train.join(problem.valid),
            test,
            config.epochs_final,
            config.training,
        ),
        on_epoch=lambda _: reporter.epoch(),
        devices=devices,
    )
    return Candidate("final", best.name, (), best.spec, variables, estimate)

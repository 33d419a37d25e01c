"""One run of NASH from a config to its result: the order of events.

A run is replayed, not restored: a candidate that the record has is taken from it instead of being
trained, and the rest follows from the seed as it did the first time. So a run that was stopped
anywhere goes on to the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from nash_jax import morphisms
from nash_jax.architecture import (
    Architecture,
    Variables,
    count_flops,
    count_params,
    init,
    ops,
)
from nash_jax.data import (
    Dataset,
    Examples,
    channel_statistics,
    findings,
    load_dataset,
    stratified_split,
    subset,
)
from nash_jax.estimation import FAILURES, failed, train_and_validate
from nash_jax.jax_settings import check_devices
from nash_jax.machine import num_cores
from nash_jax.runs.children import Crew, Listener, hire, max_bytes
from nash_jax.runs.config import GROWTH, Config
from nash_jax.runs.files import read_json, uninterrupted, write_json, writing
from nash_jax.runs.ledger import (
    Line,
    estimate_of,
    in_order,
    ledger_line,
    shares_of_time,
    spec_of,
)
from nash_jax.runs.progress import CELLS, QuietReporter, cells_of
from nash_jax.runs.provenance import provenance
from nash_jax.runs.start import Start, starting_network
from nash_jax.runs.workdir import (
    RESULT_FILE,
    Memory,
    Record,
    Workdir,
    config_checksum,
    open_workdir,
)
from nash_jax.search import Candidate, Proposal, SearchState, hill_climbing_step, select
from nash_jax.training import (
    DivergedError,
    TooLargeError,
    check_batch_size,
    check_streaming,
    fits_on_device,
)

if TYPE_CHECKING:  # where it is needed it is imported: it takes a second, and workers are here too
    from matplotlib.figure import Figure


class StoppedError(Exception):
    """A run cannot go on; the message says why. What is there is kept.

    Attributes:
      resumable: whether the same command could go on, once what was wrong is put right.
    """

    def __init__(self, message: str, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


class Reporter(Listener, Protocol):
    """Who is told how the run goes. Calls may come from several threads."""

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        """The run begins: `total_epochs` of training in all, and what the record has already."""

    def phase(self, what: str) -> None:
        """What follows: 'pretraining', 'step 1 of 5', 'final training'."""

    def candidate(self, line: Line) -> None:
        """A candidate is finished; `line` is its line in the ledger."""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with.

    Attributes:
      best: the network, trained on training and validation set; its estimate is on the test set.
        Of a search that was interrupted it is the current best, with validation accuracy.
      history: a line for every candidate, in the order of the search: the ledger.
      seconds: the run's duration, without the time between a stop and a resume.
      shares: of the workers' time in the search, what went where: 'compile', 'train', 'evaluate',
        and 'wait', when a worker had nothing to do. Empty if there was no search.
      finished: whether the best was trained to the end and tested.
    """

    best: Candidate
    history: tuple[Line, ...]
    seconds: float
    shares: dict[str, float]
    finished: bool = True

    def plot(self) -> Figure:
        """The climb: validation accuracy of every child, step by step."""
        from nash_jax.runs.pictures import climb_figure

        return climb_figure(self.history)

    def __repr__(self) -> str:
        split = "test" if self.finished else "validation"
        return (
            f"Result({split} accuracy {self.best.estimate.accuracy:.2%}, "
            f"{count_params(self.best.spec):,} parameters, {len(self.history)} networks in "
            f"{self.seconds:.0f} s{'' if self.finished else ', interrupted'})"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: the climb and a table of all candidates."""
        picture = io.StringIO()
        self.plot().savefig(picture, format="svg")
        svg = picture.getvalue()
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells_of(line)) + "</tr>"
            for line in self.history
        )
        head = "".join(f"<th>{title}</th>" for title in CELLS)
        return (
            f"<p>{html.escape(repr(self))}</p>{svg[svg.index('<svg') :]}"
            f"<table><tr>{head}</tr>{rows}</table>"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What the search may see of a data set, training and validation images, and its start."""

    train: Examples
    valid: Examples
    start: Start

    @property
    def model_0(self) -> Architecture:
        return self.start.spec


def prepare(config: Config, dataset: Dataset) -> Problem:
    """Split the training images and find model_0 for them. The test set is not looked at.

    Raises:
      ValueError: if the images are too few or too small for the config.
    """
    examples = dataset.train
    _check_classes(dataset, examples.labels, "add images, or leave the class out")
    if config.max_train_examples:
        examples = subset(examples, config.max_train_examples, config.seed)
        _check_classes(dataset, examples.labels, "raise max_train_examples")
    if not fits_on_device(dataset.train):
        check_streaming()
    train, valid = stratified_split(examples, config.validation_fraction, config.seed)
    check_batch_size(config.training, len(train))
    smallest = min(dataset.image_shape[:2])
    if config.cutout >= smallest:
        raise ValueError(
            f"cutout must be smaller than the images, {smallest} pixels; got {config.cutout}; take "
            f"--cutout={smallest // 4}, say"
        )
    normalize = ops.Normalize(*channel_statistics(train.images))
    start = starting_network(config, dataset.image_shape, dataset.num_classes, normalize)
    if config.num_steps and 0 < config.max_flops < count_flops(start.spec):
        raise ValueError(
            f"max_flops must be at least those of model_0, {count_flops(start.spec)}; got "
            f"{config.max_flops}; raise it or take smaller widths"
        )
    return Problem(train, valid, start)


def _check_classes(dataset: Dataset, labels: np.ndarray, remedy: str) -> None:
    """Raises `ValueError` unless every class can be divided into training and validation images."""
    counts = np.bincount(labels, minlength=dataset.num_classes)
    if counts.min() < 2:
        raise ValueError(
            f"{dataset.name}: every class needs two training images, one of them to validate on; "
            f"{dataset.class_name(int(counts.argmin()))} has {counts.min()}; {remedy}"
        )


def bounds_on_flops(config: Config, model_0: Architecture) -> tuple[float, ...]:
    """For every edit of a search the FLOPs that a network may have after it; empty: no bounds."""
    first = count_flops(model_0)
    last = config.max_flops if config.max_flops >= 0 else GROWTH * first
    num = config.num_steps * config.num_morphisms
    return morphisms.rising_bounds(first, last, num) if last else ()


def dataset_of(
    config: Config,
    note: Callable[[str], None] = lambda text: None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set that a config names.

    Args:
      config: `dataset`, `label`, `image_size` and `corrupt_images` matter.
      note: is told what `data.findings` has to say, and what was skipped.
      data_dir: where TensorFlow Datasets are; by default their own place.

    Raises:
      ValueError: if there is no such set, or it breaks a rule.
    """
    dataset = load_dataset(
        config.dataset,
        data_dir=None if data_dir is None else pathlib.Path(data_dir),
        label=config.label,
        image_size=config.image_size,
        corrupt_images=config.corrupt_images,
        note=note,
    )
    for finding in findings(dataset):
        note(finding)
    return dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that has been checked and can begin, or go on.

    Attributes:
      config: decides the result.
      problem: what the search sees.
      test: what the final network is tested on.
      fingerprint: of the settings and the data.
      record: what is there already, and where everything goes.
    """

    config: Config
    problem: Problem
    test: Examples
    fingerprint: str
    record: Record


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
    """Check everything that a user may have got wrong, then begin or go on with a workdir.

    Nobody else can work on the folder within this context.

    Args:
      config: decides the result; the same config gives the same result.
      workdir: a new or empty folder, or that of an earlier run with the same config. Without one
        nothing is written.
      origin: what `provenance` says, to be kept beside the config.
      note: is told what was damaged or has changed in the workdir.
      dataset: the data; by default what `config.dataset` names.
      checkpoint_seconds: between two writings of an unfinished training.
      keep_all: keep the weights of all candidates, not only of the best of every step.

    Raises:
      ValueError: for anything wrong with the config, the data or the workdir.
      WriteError: if the workdir cannot be written.
    """
    dataset = dataset_of(config, note) if dataset is None else dataset
    problem = prepare(config, dataset)
    contents: dict[str, Any] = {"data": dataset.fingerprint()}
    if dataset.class_names:
        contents["classes"] = list(dataset.class_names)
    if dataset.pixel_range:
        contents["pixel_range"] = list(dataset.pixel_range)
    if problem.start.checksum:  # a file is known by its content, wherever it is
        contents |= {
            "network": problem.start.checksum,
            "model_0": pathlib.Path(config.model_0).name,
        }
    opened = Run(config, problem, dataset.test, config_checksum(config, contents), Memory())
    if workdir is None:
        yield opened
        return
    with open_workdir(
        *(workdir, config, contents, origin or {}, note, checkpoint_seconds, keep_all)
    ) as record:
        yield dataclasses.replace(opened, record=record)


def check_precision(config: Config, devices: Sequence[jax.Device] | None) -> None:
    """Raises `ValueError` if the devices do not have the numbers that are to be computed with."""
    platform = (devices or jax.local_devices())[0].platform
    if config.precision == "tf32" and platform == "cpu":
        raise ValueError(
            "precision tf32 is for GPUs; got a CPU, which has no such numbers; take float32"
        )


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

    Raises:
      ValueError: if children cannot be made here.
      StoppedError: if model_0 or the final network cannot be trained, or no child of a step.
      WriteError: if the workdir cannot be written.
    """
    config, problem, record = run.config, run.problem, run.record
    devices = jax.local_devices() if devices is None else devices
    on_cpu = devices[0].platform == "cpu"
    together = devices if len(devices) > 1 and config.batch_size % len(devices) == 0 else None
    children = config.num_steps * config.num_neighbours
    reporter.start(
        config.epochs_pretrain + children * config.epochs_neighbours + config.epochs_final,
        in_order(record.lines.values()),
    )
    session = _Session(run, reporter, workers if on_cpu else len(devices), together)
    data, bests = (problem.train, problem.valid), []

    def result(best: Candidate, finished: bool) -> Result:
        lines = list(record.lines.values())
        shares = shares_of_time(lines, overlapped=not on_cpu)
        return Result(best, tuple(in_order(lines)), session.elapsed(), shares, finished)

    try:
        with hire(config, *data, workers, devices, reporter, record.checkpoints) as crew:
            for best in search(session, crew):
                bests.append(best)
        reporter.phase("final training")
        record.keep_only([*(best.name for best in bests), "final"])
        final = result(train_to_the_end(session, bests[-1]), finished=True)
    except KeyboardInterrupt:
        if not bests:
            raise
        return result(bests[-1], finished=False)
    if isinstance(record, Workdir):
        write_result(record.path, final)
    return final


def run_search(
    config: Config | None = None,
    dataset: Dataset | None = None,
    reporter: Reporter | None = None,
    workers: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    workdir: str | os.PathLike[str] | None = None,
) -> Result:
    """Run NASH, by default in memory alone.

    An interrupt (Ctrl-C, or a notebook's stop) ends it with the current best. For processes and
    `if __name__ == "__main__":` see `execute`.

    Args:
      config: the settings; by default the paper's, on the digits.
      dataset: the data; by default what `config.dataset` names. `data.make_dataset` makes one of
        arrays.
      reporter: is told of every epoch and every candidate: `RichReporter`, `Callbacks` or your own.
      workers: children that are trained side by side on CPU; by default one per core.
      devices: accelerators to train children on; by default all.
      workdir: where to keep the run, if that is wanted; it can be resumed then.

    Returns:
      The best network, the history and the times.

    Raises:
      KeyboardInterrupt: if it is interrupted before model_0 is trained.
      ValueError, StoppedError, WriteError: as `open_run` and `execute`.
    """
    check_devices()
    config, reporter = config or Config(), reporter or QuietReporter()
    folder = None if workdir is None else pathlib.Path(workdir)
    most = max(1, num_cores() // config.threads_per_child)
    check_precision(config, devices)
    with open_run(config, folder, provenance(), reporter.note, dataset) as opened:
        workers = min(workers or most, config.num_neighbours)
        return execute(opened, reporter, workers, devices)


def write_result(workdir: pathlib.Path, result: Result) -> None:
    """Write the pictures and `result.json`, unless they are there."""
    with contextlib.suppress(ValueError):
        read_json(workdir, RESULT_FILE)
        return
    from nash_jax.runs.pictures import draw_climb, draw_network

    with writing(workdir):
        draw_network(result.best.spec, workdir / "network.png")
        draw_climb(result.history, workdir / "climb.png")
    final = result.history[-1]
    write_json(
        workdir / RESULT_FILE,
        {
            "test_accuracy": final["test_accuracy"],
            "found_by": final["parent"],
            "params": final["params"],
            "flops": final["flops"],
            "seconds": round(result.seconds, 3),
            "shares": {name: round(share, 4) for name, share in result.shares.items()},
        },
    )


class _Keys(NamedTuple):
    init: jax.Array
    pretrain: jax.Array
    search: jax.Array
    final: jax.Array


def _keys(seed: int) -> _Keys:
    """The random keys of a run's parts."""
    return _Keys(*jax.random.split(jax.random.key(seed), 4))


class _Session:
    """What one process does for a run: trains what the record has not, and records it."""

    def __init__(
        self,
        run: Run,
        reporter: Reporter,
        workers: int,
        together: Sequence[jax.Device] | None,
    ) -> None:
        self.run, self.reporter = run, reporter
        self._workers, self._together = workers, together
        self._start = time.perf_counter()
        lines = run.record.lines.values()
        self._before = max((line["elapsed"] for line in lines), default=0.0)

    def elapsed(self) -> float:
        """Seconds of the run, this session's and those before."""
        return self._before + time.perf_counter() - self._start

    def train_alone(
        self,
        name: str,
        kind: str,
        step: int,
        parent: str | None,
        spec: Architecture,
        variables: Callable[[], Variables],
        key: jax.Array,
        data: tuple[Examples, Examples],
        epochs: int,
    ) -> Candidate:
        """A candidate that is trained in this process, by all that it has."""
        config, record, reporter = self.run.config, self.run.record, self.reporter
        if name in record.lines:
            self._check_same(name, spec, parent, [])
            known = record.variables(name, spec)
            if known is not None:
                estimate = estimate_of(record.lines[name])
                return Candidate(name, parent, (), spec, known, estimate)
        training = record.checkpoints.of(name, spec, config.training, reporter.note)
        try:
            trained, estimate = train_and_validate(
                *(spec, variables(), key, *data, epochs, config.training),
                on_epoch=lambda epoch, loss: reporter.epoch(name, epoch, loss),
                max_bytes=max_bytes(config),
                devices=self._together,
                resume=training.unfinished,
                checkpoint=training.checkpoint,
            )
        except FAILURES as error:
            certain = isinstance(error, DivergedError | TooLargeError)
            resume = "" if certain else "resume if the machine was at fault, else "
            raise StoppedError(
                f"{name} is {failed(error, 0).failure}; {resume}lower lr_start, raise max_memory "
                "or take smaller widths, in a new workdir",
                resumable=not certain,
            ) from error
        candidate = Candidate(name, parent, (), spec, trained, estimate)
        self.keep(candidate, kind, step, weights=True)
        return candidate

    def keep(self, candidate: Candidate, kind: str, step: int, weights: bool) -> None:
        """Record a candidate; one that is made again because it was lost has its line already."""
        record, reporter, name = self.run.record, self.reporter, candidate.name
        with uninterrupted():
            if weights and not candidate.estimate.failure:
                record.save(candidate)
            before = record.lines.get(name)
            if before is None or "failure" in before:
                elapsed, workers = self.elapsed(), self._workers
                line = ledger_line(candidate, kind, step, elapsed, workers, self.run.fingerprint)
                record.add(line)
                reporter.candidate(line)
            elif estimate_of(before).accuracy != candidate.estimate.accuracy:
                reporter.note(
                    f"{name} has another accuracy than the first time, "
                    f"{candidate.estimate.accuracy:.4f}: the machine or the versions are others"
                )

    def make_children(
        self, crew: Crew, best: Candidate, proposals: Sequence[Proposal], step: int, kept: list[str]
    ) -> list[Candidate]:
        """The children of a step, in the order of the proposals; the best of them has its weights.

        Args:
          crew: makes those that the record has not.
          best: the current best.
          proposals: the children to be.
          step: of hill climbing, from 1.
          kept: the names of all candidates whose weights are to be kept beyond this step.
        """
        record = self.run.record
        if all(not p.edits for p in proposals):
            self.reporter.note(
                f"step {step}: no edit keeps max_flops; its children are {best.name} trained on"
            )
        done = {p.name: self._recall(p, best) for p in proposals if p.name in record.lines}
        if len(done) == len(proposals) and all(child.estimate.failure for child in done.values()):
            done = {}  # that is where the run stopped: another try
        for child in crew.make(best, [p for p in proposals if p.name not in done]):
            done[child.name] = child
            leader = _leader([done[p.name] for p in proposals if p.name in done])
            self.keep(child, "child", step, weights=record.keep_all or child is leader)
            record.keep_only([*kept, *([leader.name] if leader else [])])
        leader = _leader([done[p.name] for p in proposals])
        if leader is None:
            why = done[proposals[0].name].estimate.failure
            raise StoppedError(
                f"all children of step {step} failed; {why}; resume if the machine was at fault, "
                "else lower lr_start or raise max_memory in a new workdir"
            )
        if not leader.variables:  # it comes from the record
            variables = record.variables(leader.name, leader.spec)
            if variables is None:
                (again,) = crew.make(best, [p for p in proposals if p.name == leader.name])
                if again.estimate.failure:
                    raise StoppedError(
                        f"{leader.name} could not be made again: {again.estimate.failure}; "
                        "resume once there is what it needs"
                    )
                self.keep(again, "child", step, weights=True)
                variables = again.variables
            done[leader.name] = dataclasses.replace(leader, variables=variables)
        return [done[p.name] for p in proposals]

    def _recall(self, proposal: Proposal, best: Candidate) -> Candidate:
        """A child of the record, without its weights."""
        name, spec, line = proposal.name, proposal.spec, self.run.record.lines[proposal.name]
        edits = [morphisms.edit_to_dict(edit) for edit in proposal.edits]
        self._check_same(name, spec, best.name, edits)
        return Candidate(name, best.name, proposal.edits, spec, {}, estimate_of(line))

    def _check_same(
        self, name: str, spec: Architecture, parent: str | None, edits: list[dict[str, Any]]
    ) -> None:
        """Raises `StoppedError` if the ledger's candidate is another than is proposed now."""
        line = self.run.record.lines[name]
        if (line["parent"], line["edits"], spec_of(line)) != (parent, edits, spec):
            raise StoppedError(
                f"the ledger's {name} was made in another way than is proposed now; resume with "
                "the versions that began the run (config.json has them)"
            )


def _leader(children: Sequence[Candidate]) -> Candidate | None:
    return None if all(child.estimate.failure for child in children) else select(children)


def search(session: _Session, crew: Crew) -> Iterator[Candidate]:
    """Algorithm 1, lines 9 to 22: model_0, pretrained, then the best child of every step."""
    run, reporter = session.run, session.reporter
    config, problem, keys = run.config, run.problem, _keys(run.config.seed)
    reporter.phase("pretraining")
    if config.num_steps and "model_0" not in run.record.lines:
        crew.start()
    model_0, variables = problem.start.spec, problem.start.variables
    best = session.train_alone(
        *("model_0", "pretrained", 0, None, model_0),
        lambda: init(model_0, keys.init) if variables is None else variables,
        *(keys.pretrain, (problem.train, problem.valid), config.epochs_pretrain),
    )
    kept = [best.name]
    yield best

    bounds = bounds_on_flops(config, model_0)
    state = SearchState(0, best, keys.search)
    for step in range(1, config.num_steps + 1):
        reporter.phase(f"step {step} of {config.num_steps}")

        def estimate_children(
            best: Candidate, proposals: Sequence[Proposal], step: int = step
        ) -> list[Candidate]:
            return session.make_children(crew, best, proposals, step, kept)

        state, _ = hill_climbing_step(state, config.hill_climbing, estimate_children, bounds)
        kept.append(state.best.name)
        yield state.best


def train_to_the_end(session: _Session, best: Candidate) -> Candidate:
    """Algorithm 1, line 24, and the one look at the test set.

    The best network is trained on the training and the validation set, then tested.
    """
    config, problem = session.run.config, session.run.problem
    return session.train_alone(
        *("final", "final", config.num_steps, best.name, best.spec, lambda: best.variables),
        *(_keys(config.seed).final, (problem.train.join(problem.valid), session.run.test)),
        config.epochs_final,
    )

"""A run made again from its record, in a folder of its own, and what agrees with it bit by bit.

Before anything is trained, the record is replayed: the data must be those that were recorded, and
this version must propose what was proposed then. What was decided by time is decided by the times
of the record.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import Dataset
from nash_jax.estimation import Job, Network, Outcome
from nash_jax.jax_settings import check_devices
from nash_jax.machine import num_cores
from nash_jax.record.agreement import (
    Difference,
    Part,
    same_decisions,
    same_files,
    same_trials,
)
from nash_jax.record.files import UNFINISHED, checksum, read_json
from nash_jax.record.ledger import Ledger, ledger_in
from nash_jax.record.lines import Line
from nash_jax.record.networks import files_in
from nash_jax.record.provenance import changes, provenance
from nash_jax.record.workdir import (
    CONFIG_FILE,
    LOCK_FILE,
    NETWORKS,
    RESULT_FILE,
    Memory,
    read_config,
)
from nash_jax.reporting.events import Note, Tell, quiet
from nash_jax.runs.config import Config, config_of, read_run
from nash_jax.runs.deadline import BASELINE, FINAL
from nash_jax.runs.engine import Engine
from nash_jax.runs.problem import dataset_of, prepare
from nash_jax.runs.result import Result
from nash_jax.runs.run import check_precision, execute, open_run
from nash_jax.runs.stopped import StoppedError
from nash_jax.runs.tables import (
    CURVE_FILE,
    REPEATS_FILE,
    fingerprint_of,
    is_of_table,
    run_in_table,
)
from nash_jax.runs.trials import Run, Trials

#: The entry of `config.json` that says which record a run repeats.
REPRODUCES = "reproduces"


@dataclasses.dataclass(frozen=True, eq=False)
class Reproduction:
    """A run that was made again.

    Attributes:
      workdir: its folder.
      parts: what was compared, in the order in which it was made.
      recorded, found: test accuracy of the record, and of the reproduction.
      result: what it ended with; None of searches in a table.
    """

    workdir: pathlib.Path
    parts: Sequence[Part]
    recorded: float
    found: float
    result: Result | None = None

    @property
    def first(self) -> Difference | None:
        """The first thing that differs; None if all agrees."""
        return next((found for part in self.parts for found in part.differences), None)

    def __str__(self) -> str:
        rows = [("", "compared", "the same")]
        rows += [
            (part.name, f"{part.number}", f"{part.number - len(part.differences)}")
            for part in self.parts
        ]
        test = f"test accuracy {self.found:.2%}"
        if self.found != self.recorded:
            test += f", in the record {self.recorded:.2%}"
        end = "all is the same, bit by bit"
        if self.first is not None:
            end = f"not the same; the first difference: {self.first}"
        table = [f"{name:<10}{number:>10}{same:>10}" for name, number, same in rows]
        return "\n".join([*table, f"{self.workdir}: {test}; {end}"])


def reproduce(
    workdir: pathlib.Path,
    out: pathlib.Path | None = None,
    dataset: Dataset | str = "",
    model_0: str = "",
    tell: Tell = quiet,
    workers: int | None = None,
    command: Sequence[str] = (),
) -> Reproduction:
    """Make a finished run again, in another folder, and compare the two records.

    It follows what the record says: settings, seed, what was decided by time, and what arrived when
    where trials count by arrival. On a CPU of the same kind, with the same versions, all is the
    same, bit by bit; what else is not as it was is told as a note. Like `execute`, it needs `if
    __name__ == "__main__":` in a program.

    Args:
      workdir: the run's folder, which is only read.
      out: a new folder, or that of a reproduction of the same record, which goes on; by default
        the run's with `-again` at its end.
      dataset: the data, or where they are now, or of a search in a table, where its file is; by
        default where the record says.
      model_0: where the file of the first network is now; by default likewise.
      tell: is told how it goes.
      workers: trials that are made side by side on CPU; by default one per core.
      command: by which this was begun, to be recorded.

    Raises:
      ValueError: if it cannot be reproduced here, or there is something else at `out`.
      StoppedError, WriteError: as `execute`.
    """
    check_devices()

    def note(text: str) -> None:
        tell(Note(text))

    out = out or workdir.absolute().with_name(f"{workdir.absolute().name}-again")
    if is_of_table(workdir):
        return _reproduce_in_table(workdir, out, "" if isinstance(dataset, Dataset) else dataset)
    about, ledger, lines = _finished(workdir)
    record = checksum({"trials": list(ledger.trials.values()), "timings": ledger.timings})
    _check_out(out, workdir, record)
    places = {"dataset": dataset if isinstance(dataset, str) else "", "model_0": model_0}
    config = config_of(about).replace(**{name: place for name, place in places.items() if place})
    origin = provenance(command)
    for change in changes(about, origin, "the record"):
        note(change)
    try:
        check_precision(config, None)
        images = dataset if isinstance(dataset, Dataset) else _images(config, about, note)
        _replay(config, about, images, ledger)
    except (ValueError, StoppedError) as error:
        raise ValueError(f"{workdir} cannot be reproduced here: {error}") from None
    networks = workdir / NETWORKS
    with open_run(
        config,
        out,
        {**origin, REPRODUCES: record},
        note,
        images,
        keep_all=not files_in(networks).keys() <= _chosen(ledger),
    ) as opened:
        for line in ledger.timings[len(opened.record.timings) :]:
            opened.record.add_timing({**line, "config": opened.fingerprint})
        result = execute(
            dataclasses.replace(opened, repeats=lines, decisions=ledger.decisions),
            tell,
            workers or max(1, num_cores() // config.threads_per_child),
            baseline=BASELINE in lines,
        )
    if not result.finished:  # `execute` gives a search that was interrupted a result
        raise KeyboardInterrupt
    again = ledger_in(out)
    names = sorted(path.name for path in files_in(networks).values())
    parts = (
        same_trials(ledger, again),
        same_decisions(ledger, again),
        same_files("networks", networks, out / NETWORKS, names),
    )
    found = result.best.estimate.accuracy
    return Reproduction(out, parts, lines[FINAL]["test_accuracy"], found, result)


def _reproduce_in_table(workdir: pathlib.Path, out: pathlib.Path, path: str) -> Reproduction:
    """Make searches in a table again.

    Raises:
      ValueError: if the table is not there or another, or `out` is not new.
    """
    _check_out(out, workdir, record="")
    about = read_json(workdir, RESULT_FILE)
    then = about.get("fingerprint", "not recorded")
    path = path or about.get("file", about["table"])
    try:
        now = fingerprint_of(path)
        if then not in (now, "not recorded"):
            raise ValueError(f"{path} has the fingerprint {now}")
    except ValueError as error:
        raise ValueError(
            f"{workdir} cannot be reproduced here: {error}; give where its table {about['table']}, "
            f"of fingerprint {then}, is now with --dataset=FILE"
        ) from None
    config = config_of(about["settings"])
    run_in_table(
        config,
        config.values(),  # its sizes are those of the record
        out,
        path,
        data=about["data"],
        epochs=about["epochs"],
        seconds=about["seconds"],
        repeats=about["repeats"],
    )
    again = read_json(out, RESULT_FILE)
    parts = [same_files("files", workdir, out, (REPEATS_FILE, CURVE_FILE))]
    return Reproduction(out, parts, about["test_accuracy"], again["test_accuracy"])


def _finished(workdir: pathlib.Path) -> tuple[dict[str, Any], Ledger, dict[str, Line]]:
    """What a run's `config.json` and ledger say, and the ledger's trials by name.

    Raises:
      ValueError: if it is no run that is finished, or its record is damaged.
    """
    run, go_on = read_run(workdir), f"go on with it by its own command and --workdir={workdir}"
    if run.final is None:
        raise ValueError(
            f"a run can be reproduced when it is finished; {workdir} is {run.state}; {go_on}"
        )
    ledger = ledger_in(workdir)
    if ledger.damages:
        raise ValueError(
            f"a run is reproduced from a whole record; in {workdir} {ledger.damages[0]}; {go_on}, "
            "which makes again what is missing"
        )
    return run.about, ledger, dict(ledger.trials)


def _check_out(out: pathlib.Path, workdir: pathlib.Path, record: str) -> None:
    """Raises `ValueError` unless a reproduction of this record can begin or go on in a folder."""
    if out.resolve().is_relative_to(workdir.resolve()):
        raise ValueError(
            f"out must not lie in {workdir}, which is only read; got {out}; choose another"
        )
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {""}
    begun = all(name == LOCK_FILE or name.endswith(UNFINISHED) for name in names)
    if not begun and not (CONFIG_FILE in names and read_config(out).get(REPRODUCES) == record):
        raise ValueError(
            f"out must be a new folder, or that of a reproduction of {workdir} as it is now; {out} "
            "is neither; choose another"
        )


def _images(config: Config, about: Mapping[str, Any], note: Callable[[str], None]) -> Dataset:
    """The data, from where the config says.

    Raises:
      ValueError: if they are not there.
    """
    try:
        return dataset_of(config, note)
    except ValueError as error:
        raise ValueError(
            f"{error}; if its data, of fingerprint {about.get('data')}, lie elsewhere now, give "
            "--dataset"
        ) from None


def _chosen(ledger: Ledger) -> set[str]:
    """The trials whose networks every run keeps."""
    decisions = ledger.decisions.values()
    return {FINAL, *(x for line in decisions for x in (line["incumbent"], *line["returned"][:1]))}


def _replay(config: Config, about: Mapping[str, Any], dataset: Dataset, ledger: Ledger) -> None:
    """Replay a record, training nothing.

    Raises:
      ValueError: if the data are others than those recorded.
      StoppedError: if something else is proposed or decided now than was then.
    """
    if (found := dataset.fingerprint()) != about.get("data"):
        raise ValueError(
            f"its data have the fingerprint {about.get('data')}; {dataset.name} has {found}; give "
            "where its data are with --dataset"
        )
    problem = prepare(config, dataset)
    if problem.start.checksum != about.get("network", ""):
        raise ValueError(
            f"its model_0 has the fingerprint {about.get('network')}; {config.values()['model_0']} "
            f"has {problem.start.checksum}; give where its file is with --model_0"
        )
    memory = _Replayed(ledger)
    run, nothing = Run(config, problem, dataset.test, "", memory), _NoExecutor()
    engine = Engine(run, quiet, Trials(run, quiet, nothing, nothing, workers=1))
    best = engine.search()
    if "failure" not in memory.lines.get(BASELINE, {"failure": "none"}):
        engine.train_baseline(best)
    engine.train_to_the_end(best)
    for step, then in ledger.decisions.items():
        now = memory.decisions[step]
        for what in ("incumbent", "returned"):
            if then[what] != now[what]:
                raise StoppedError(
                    f"at step {step} {what} was {then[what]}, and is {now[what]} now; take the "
                    "versions that made it (config.json has them)"
                )


class _Replayed(Memory):
    """A record that is replayed without weights."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.lines = dict(ledger.trials)
        self.decisions, self.timings = dict(ledger.decisions), list(ledger.timings)

    def variables(self, name: str, spec: Architecture) -> Variables | None:
        """None are needed; what is there is not made again."""
        del name, spec
        return {}


class _NoExecutor:
    """Makes nothing: whatever is asked for must be in the record."""

    def start(self) -> None:
        """There is nothing to get ready."""

    def put(self, name: str, network: Network) -> None:
        """There is nothing to begin with."""

    def release(self, name: str) -> None:
        """There is nothing to let go of."""

    def submit(self, job: Job) -> None:
        raise StoppedError(
            f"the ledger has no {job.name}, which is proposed now; take the versions that made it "
            "(config.json has them)"
        )

    def done(self) -> Iterator[tuple[str, Outcome]]:
        yield from ()

    def close(self) -> None:
        """There is nothing to stop."""

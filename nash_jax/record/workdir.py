"""The folder of one run: all that is needed to go on after any stop, and to see what was found.

config.json    settings, fingerprint of the data, versions and machine
ledger.jsonl   one line per trial, and what the strategy decided: see `ledger`
networks/      every network that was the best so far, and the final one: see `networks`
trainings/     where unfinished trainings stand: see `checkpoints`
tensorboard/   learning curves, if they are wanted
network.png    a picture of the final network
climb.png      the validation accuracy of every child, step by step
result.json    test accuracy and times
report.html    what `nash report` wrote
lock           held by the process that works here
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import BACKGROUND
from nash_jax.record.checkpoints import Checkpoints
from nash_jax.record.files import (
    UNFINISHED,
    DamagedError,
    checksum,
    locked,
    read_json,
    sync_folder,
    write_json,
    writing,
)
from nash_jax.record.ledger import LEDGER_FILE, Ledger, append_line, repair_ledger
from nash_jax.record.lines import Line, is_outdated
from nash_jax.record.networks import (
    NETWORK_ENDING,
    files_in,
    load_network,
    save_network,
)
from nash_jax.record.provenance import changes
from nash_jax.record.settings import (
    KNOWN_BY,
    Settings,
    fingerprint,
    side_by_side,
    written,
)
from nash_jax.search import AFTER
from nash_jax.text import printable

CONFIG_FILE, RESULT_FILE, LOCK_FILE = "config.json", "result.json", "lock"
#: The entry of `config.json` with the first network of a space of genotypes: with the settings it
#: says what builds the others. The ledgers of early versions have every architecture instead.
FIRST_NETWORK = "first_network"
NETWORKS, TRAININGS = "networks", "trainings"
_OURS = {CONFIG_FILE, RESULT_FILE, LOCK_FILE, LEDGER_FILE, NETWORKS, TRAININGS}


class Record(Protocol):
    """What a run remembers of its trials."""

    @property
    def lines(self) -> Mapping[str, Line]:
        """The ledger's trials by name, in the order in which they were made."""

    @property
    def decisions(self) -> Mapping[int, Line]:
        """What the strategy decided, by step."""

    @property
    def timings(self) -> list[Line]:
        """What was decided by time: see `ledger.Ledger`."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Where trainings write how far they have come."""

    def variables(self, name: str, spec: Architecture) -> Variables | None:
        """The weights of a trial of the ledger, if they are there and whole."""

    def save(self, name: str, spec: Architecture, variables: Variables) -> None:
        """Keep a trial's weights."""

    def add(self, line: Line) -> None:
        """Add a trial to the ledger; its training has ended."""

    def end_training(self, name: str) -> None:
        """Let go of what is there of an unfinished training."""

    def remove_result(self) -> None:
        """Take away what the run ended with: it is to have another end."""

    def decide(self, line: Line) -> None:
        """Add what the strategy decided."""

    def add_timing(self, line: Line) -> None:
        """Add what was decided by time."""

    def release(self, names: Collection[str]) -> None:
        """Let go of the weights of trials, where they are there."""

    def keep_only(self, names: Collection[str]) -> None:
        """Let go of the weights of all others."""


class Memory:
    """A record that ends with the process."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.decisions: dict[int, Line] = {}
        self.timings: list[Line] = []
        self.checkpoints = Checkpoints()
        self._variables: dict[str, Variables] = {}

    def variables(self, name: str, spec: Architecture) -> Variables | None:
        del spec
        return self._variables.get(name)

    def save(self, name: str, spec: Architecture, variables: Variables) -> None:
        del spec
        self._variables[name] = variables

    def add(self, line: Line) -> None:
        self.lines.pop(line["name"], None)
        self.lines[line["name"]] = line

    def end_training(self, name: str) -> None:
        """There is nothing."""

    def remove_result(self) -> None:
        """There is nothing."""

    def decide(self, line: Line) -> None:
        self.decisions[line["step"]] = line

    def add_timing(self, line: Line) -> None:
        self.timings.append(line)

    def release(self, names: Collection[str]) -> None:
        for name in names:
            self._variables.pop(name, None)

    def keep_only(self, names: Collection[str]) -> None:
        self._variables = {name: x for name, x in self._variables.items() if name in names}


class Workdir:
    """A record in a folder. Weights are written before the line that speaks of them."""

    def __init__(
        self,
        path: pathlib.Path,
        ledger: Ledger,
        checkpoint_seconds: float,
        keep_all: bool,
        note: Callable[[str], None],
    ) -> None:
        self.path, self._keep_all, self._note = path, keep_all, note
        self.lines, self.decisions = ledger.trials, ledger.decisions
        self.timings = list(ledger.timings)
        self.checkpoints = Checkpoints(path / TRAININGS, checkpoint_seconds)
        self._kept = set(files_in(path / NETWORKS))

    def variables(self, name: str, spec: Architecture) -> Variables | None:
        path = self._network(name)
        try:
            there, variables = load_network(path)
            if there != spec:
                raise DamagedError(f"{path} holds another network than {name}")
            return variables
        except ValueError as error:
            why = str(error) if path.exists() else f"{path} is missing"
            self._note(f"{why}; {name} is made again")
            return None

    def save(self, name: str, spec: Architecture, variables: Variables) -> None:
        save_network(self._network(name), spec, variables)
        self._kept.add(name)

    def add(self, line: Line) -> None:
        self.lines.put(line["name"], append_line(self.path, line))
        self.end_training(line["name"])

    def end_training(self, name: str) -> None:
        self.checkpoints.remove(name)

    def remove_result(self) -> None:
        with writing(self.path):
            (self.path / RESULT_FILE).unlink(missing_ok=True)
            sync_folder(self.path)

    def decide(self, line: Line) -> None:
        self.decisions.put(line["step"], append_line(self.path, line))

    def add_timing(self, line: Line) -> None:
        append_line(self.path, line)
        self.timings.append(line)

    def release(self, names: Collection[str]) -> None:
        for name in () if self._keep_all else self._kept.intersection(names):
            path = self._network(name)
            with writing(path):
                path.unlink(missing_ok=True)
            self._kept.remove(name)

    def keep_only(self, names: Collection[str]) -> None:
        self.release(self._kept.difference(names))

    def _network(self, name: str) -> pathlib.Path:
        return self.path / NETWORKS / (name + NETWORK_ENDING)


@contextlib.contextmanager
def open_workdir(
    path: pathlib.Path,
    settings: Settings,
    contents: Mapping[str, Any],
    provenance: dict[str, Any],
    note: Callable[[str], None],
    checkpoint_seconds: float = 60.0,
    keep_all: bool = False,
) -> Iterator[Workdir]:
    """Begin a run in a new or empty folder, or go on with the run that is there.

    Args:
      path: the folder.
      settings: those of the run, and their defaults.
      contents: of what the settings only name: checksums of the run's data and of model_0's file,
        and the names of the classes.
      provenance: versions and machine, to be kept beside the config.
      note: is told what was damaged or has changed, and what is done about it.
      checkpoint_seconds: between two writings of an unfinished training.
      keep_all: keep the weights of all trials, not only of those that were the best so far.

    Raises:
      ValueError: if it is the folder of something else, or of a run with other settings or data, or
        another process works on it.
      WriteError: if it cannot be written.
    """
    _check_folder(path)
    with locked(path / LOCK_FILE, note):
        with writing(path):
            if not sync_folder(path):
                note(
                    f"the file system of {printable(path)} cannot flush folders: after a power cut "
                    "the files of the last seconds may be missing, and are made again"
                )
        ledger = _recover(path, settings, contents, provenance, note)
        with writing(path):
            for folder in (NETWORKS, TRAININGS):
                (path / folder).mkdir(exist_ok=True)
            for left in path.rglob("*" + UNFINISHED):
                if not left.is_dir():
                    left.unlink(missing_ok=True)
            done = {
                name
                for name, line in ledger.trials.items()
                if "failure" not in line
                and not (name in AFTER and is_outdated(line, ledger.timings))
            }
            early = files_in(path / TRAININGS)
            for name, left in early.items():
                if left.is_dir():
                    continue  # of a trial with such a name
                left.unlink()
                if name not in done:
                    note(f"{left} is of an earlier version; {name} is trained from its beginning")
        workdir = Workdir(path, ledger, checkpoint_seconds, keep_all, note)
        for left in list((path / TRAININGS).iterdir()):
            if left.name in done:
                workdir.end_training(left.name)
        yield workdir


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """What `config.json` says: settings side by side, command, versions, machine.

    Args:
      path: the run's folder.

    Raises:
      ValueError: if there is no config, or it is not one that a run wrote.
    """
    if not (path / CONFIG_FILE).exists():
        raise ValueError(
            f"there must be a run in {path}; it has no {CONFIG_FILE}; give another folder, or wait "
            "until its run has begun"
        )
    try:
        data = side_by_side(read_json(path, CONFIG_FILE))
        command, versions = data.setdefault("command", []), data.setdefault("versions", {})
        classes = data.setdefault("classes", [])
        texts = [*command, *versions, *versions.values(), *classes]
        if not isinstance(classes, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("command, versions and classes must be texts")
        if not all(isinstance(x, int | float) and x > 0 for x in data.get("limits", {}).values()):
            raise TypeError("limits must be numbers")
        images = data.get("images", {"train": 0, "validation": 0, "test": 0})
        if not all(isinstance(images.get(x), int) for x in ("train", "validation", "test")):
            raise TypeError("images must be three numbers")
        pixel_range = data.get("pixel_range") or (0, 0)
        if not all(isinstance(x, int | float) for x in pixel_range) or len(pixel_range) != 2:
            raise TypeError("pixel_range must be two numbers")
    except (TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path / CONFIG_FILE} is damaged: {error}") from None
    return data


class Meaning(NamedTuple):
    """What the numbers that go into a network and come out of it mean.

    Attributes:
      classes: their names in the order of the logits; empty where they have none.
      pixel_range: the values that became 0 and 255, if images had more than 8 bits per pixel.
    """

    classes: tuple[str, ...] = ()
    pixel_range: tuple[float, float] | None = None


NO_MEANING = Meaning()

#: In `config.json`: what a program calls the data that it gave.
DATA_NAME = "data_name"

#: How images are read: config.json says 2. Early versions did not write it; they used the colours
#: that transparent pixels hide, and the upper 8 bits of 16.
_READING = "reading"
_READ_OTHERWISE = (
    "; or go on with the version that began it, which read transparent images and those of 16 bits "
    "otherwise"
)


def read_meaning(path: pathlib.Path, note: Callable[[str], None] = lambda text: None) -> Meaning:
    """What a run's networks see and say; nothing, in a folder that has networks alone.

    Args:
      path: the run's folder.
      note: is told if the config is damaged: the networks are of use without it.
    """
    about = _about(path, lambda text: note(f"{text}; classes have no names"))
    if about is None:
        return NO_MEANING
    least_and_most = about.get("pixel_range")
    return Meaning(
        tuple(map(printable, about["classes"])),  # early runs have bytes that are no UTF-8
        (least_and_most[0], least_and_most[1]) if least_and_most else None,
    )


def background_of(path: pathlib.Path) -> str | None:
    """What a run's networks saw through transparent pixels; None: whatever colour these hide."""
    about = _about(path)
    return BACKGROUND if about is None or _READING in about else None


def _about(
    path: pathlib.Path, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any] | None:
    """What `config.json` says; None if there is none, or if it is damaged, which is noted."""
    if not (path / CONFIG_FILE).exists():
        return None
    try:
        return read_config(path)
    except DamagedError as error:
        note(str(error))
        return None


def _check_folder(path: pathlib.Path) -> None:
    """Make the folder, or see that it is empty or that of a run; else raise `ValueError`."""
    try:
        if path.exists() and not path.is_dir():
            raise ValueError(f"workdir must be a folder; {path} is a file; choose another")
        path.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise ValueError(
            f"workdir {path} cannot be used: {error.strerror}; choose another"
        ) from None
    # With a config.json or ledger.jsonl it is a run's; a run that was stopped before it had one has
    # a lock and nothing that is not ours.
    others = {name for name in entries if name not in _OURS and not name.endswith(UNFINISHED)}
    if others and not entries & {CONFIG_FILE, LEDGER_FILE}:
        raise ValueError(
            f"workdir must be new, empty or that of a run; {path} has {len(entries)} other "
            "entries, and nothing is written over; choose another"
        )


def _recover(
    path: pathlib.Path,
    settings: Settings,
    contents: Mapping[str, Any],
    provenance: dict[str, Any],
    note: Callable[[str], None],
) -> Ledger:
    """Compare the settings with those of the run that is there, if any, and read its ledger."""
    before: dict[str, Any] | None = None
    if (path / CONFIG_FILE).exists():
        try:
            before = read_json(path, CONFIG_FILE)
        except DamagedError as error:
            note(f"{error}; it is written anew")
    accepted = {
        fingerprint(settings.given, contents),
        # Early versions counted all settings that they knew, and at first the names of places too.
        fingerprint(settings.early, contents),
        checksum({**settings.early, **contents}),
    }
    if before is not None:
        reason = "" if _READING in before else _READ_OTHERWISE
        then = side_by_side(before)
        now = {**settings.values, **contents}
        check_unchanged(f"run in {path}", {**settings.defaults, **then}, now, reason)
        for change in changes(before, provenance):
            note(change)
        # Some earlier versions also wrote the settings of strategies that a run did not use.
        of_others = (name for group in before.get("settings", {}).values() for name in group)
        of_run = {name: then[name] for name in (*now, *of_others) if name in then}
        accepted |= {checksum(of_run), fingerprint(of_run, {})}
    ledger = repair_ledger(path)
    for damage in ledger.damages:
        note(f"{damage}; what it said is made again")
    if any(line["config"] not in accepted for line in ledger.trials.values()):
        raise ValueError(
            f"a run goes on with the settings that it began with; {path / LEDGER_FILE} was made "
            "with others than those given; give these, or choose another workdir"
        )
    if before is None:
        about = {**contents, **provenance, _READING: 2}
        write_json(path / CONFIG_FILE, {**written(settings), **about})
    return ledger


def check_unchanged(
    what: str, before: Mapping[str, Any], now: Mapping[str, Any], more: str = ""
) -> None:
    """Raises `ValueError`, naming old and new values, if the settings of `what` have changed."""
    same = {name for name, by in KNOWN_BY.items() if before.get(by) == now.get(by) is not None}
    changed = [
        f"{name} was {before.get(name)!r:.100}, is {value!r:.100}"
        for name, value in now.items()
        if before.get(name) != value and name not in same
    ]
    if changed:
        raise ValueError(
            f"the {what} goes on with the settings that it began with; {'; '.join(changed)}; give "
            f"the old ones, or choose another workdir{more}"
        )

"""The lines of a ledger: of a trial, of what a strategy decided, of what was decided by time.

The line of a genotype that is small whole numbers has no architecture, which the space builds,
unless it is of the baseline or the final network. Those of early versions have one all the same.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, TypeVar

from nash_jax.architecture import Architecture, key_numbers
from nash_jax.architecture.serialization import from_dict, to_dict
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import edit_from_dict, edit_to_dict
from nash_jax.record.files import CHECKSUM, DamagedError, checksum, with_checksum
from nash_jax.search import AFTER, Deferred, Proposal, Trial, resolved
from nash_jax.spaces import Edge, Stage, Supernet

Line = dict[str, Any]
Key = TypeVar("Key", str, int)

#: The kinds of lines that are no trials: what a strategy decided, how long a training is to be, and
#: that the run has more time.
DECISION, LENGTH, EXTENSION = "decision", "length", "extension"

#: The `kind` in a trial's line, by its recipe; 'child' for all others.
_KINDS = {"pretrain": "pretrained", "baseline": "baseline", "final": "final"}
_EARLY_RECIPES = {"pretrained": "pretrain", "child": "brief", "final": "final"}


def line_of(trial: Trial, config: str, told: Line | None = None) -> Line:
    """A trial for the ledger, without its weights.

    Args:
      trial: the trial.
      config: checksum of the run's settings and data.
      told: the times that the strategy is told instead of the trial's own: see `times_of`.

    Returns:
      The line. Its `kind` is 'pretrained', 'child', 'baseline', or 'final' (trained on all training
      images; its accuracy and loss are on the test set, those of the others on the validation set).
    """
    estimate, kind = trial.estimate, _KINDS.get(trial.recipe, "child")
    short = isinstance(trial.genotype, tuple) and trial.recipe not in AFTER
    split = "test" if kind == "final" else "validation"
    balanced = estimate.balanced_accuracy
    return {
        "name": trial.name,
        "kind": kind,
        "recipe": trial.recipe,
        "step": trial.step,
        "index": trial.index,
        "parent": trial.parent,
        "edits": [edit_to_dict(edit) for edit in trial.edits],
        **_genotype(trial.genotype),
        **({"candidates": list(map(list, estimate.candidates))} if estimate.candidates else {}),
        "params": trial.params,
        "flops": trial.flops,
        f"{split}_accuracy": None if estimate.failure else estimate.accuracy,
        f"{split}_loss": estimate.loss if math.isfinite(estimate.loss) else None,
        "train_losses": list(estimate.train_losses),
        "seconds": dict(vars(estimate.seconds.rounded)),
        "elapsed": round(trial.elapsed, 3),
        "workers": trial.workers,
        **({"place": trial.place} if trial.place else {}),
        "memory_bytes": estimate.required_bytes,
        **({f"{split}_balanced_accuracy": balanced} if balanced is not None else {}),
        **({"objectives": dict(estimate.objectives)} if estimate.objectives else {}),
        **({"lambdas": dict(estimate.lambdas)} if estimate.lambdas else {}),
        **({"edges": {e: list(h) for e, h in estimate.edges.items()}} if estimate.edges else {}),
        **({"failure": estimate.failure} if estimate.failure else {}),
        **({"told": told} if told else {}),
        "proposal": proposal_checksum(trial.proposal, None if short else trial.spec),
        "config": config,
        **({} if short else {"spec": to_dict(trial.spec)}),
    }


def _genotype(genotype: Any) -> Line:
    """What a line has of a genotype that is no spec."""
    if isinstance(genotype, Supernet):
        edges = {name: list(choices) for name, choices in genotype.edges}
        size = {"cells": genotype.cells, "drops_skips": genotype.drops_skips}
        return {"supernet": {"edges": edges, **size}}
    return {"genotype": list(genotype)} if isinstance(genotype, tuple) else {}


def _genotype_in(line: Line) -> Any:
    """The genotype of a line; None if it is the architecture."""
    if "supernet" in line:
        found = line["supernet"]
        edges = (Edge(name, tuple(choices)) for name, choices in found["edges"].items())
        return Supernet(tuple(edges), found["cells"], found["drops_skips"])
    return tuple(line["genotype"]) if "genotype" in line else None


def proposal_checksum(proposal: Proposal, spec: Architecture | None) -> str:
    """The checksum that identifies a proposal: of genotype, key, parent, edits, recipe, budget.

    Args:
      proposal: of a genotype that is small whole numbers, or an architecture.
      spec: takes the place of the genotype, if it is given.
    """
    genotype = {"genotype": list(proposal.genotype)} if spec is None else {"spec": to_dict(spec)}
    return checksum(
        {
            **genotype,
            "key": key_numbers(proposal.key).tolist(),
            "parent": proposal.parent,
            "edits": [edit_to_dict(edit) for edit in proposal.edits],
            "recipe": proposal.recipe,
            "budget": proposal.budget,
        }
    )


#: The key of a trial that was read from a ledger, which has only a checksum of the real key.
_NO_KEY: Any = None


#: Builds the network of a genotype, for a stage: a space's `build`.
Build = Callable[[Any, Stage], Architecture]


def trial_of(line: Line, build: Build) -> Trial:
    """The trial that a line was made from; its proposal's key is not known.

    Args:
      line: of a trial.
      build: builds the networks of genotypes that are small whole numbers, when they are wanted.
    """
    recipe = line["recipe"] if "recipe" in line else _EARLY_RECIPES[line["kind"]]
    edits = tuple(edit_from_dict(edit) for edit in line["edits"])
    genotype, network = _genotype_in(line), network_of(line, build)
    if genotype is None:
        genotype = network
    proposal = Proposal(line["name"], genotype, _NO_KEY, line["parent"], edits, recipe)
    return Trial(
        proposal,
        network,
        estimate_of(line),
        line["step"],
        index_of(line),
        line["elapsed"],
        line["workers"],
        place=line.get("place", ""),
    )


def estimate_of(line: Line) -> Estimate:
    """The estimate that a line was made from."""
    split = "test" if line["kind"] == "final" else "validation"
    accuracy, loss = line[f"{split}_accuracy"], line[f"{split}_loss"]
    return Estimate(
        0.0 if accuracy is None else accuracy,
        math.inf if loss is None else loss,
        Seconds(**line["seconds"]),
        line["memory_bytes"],
        tuple(line["train_losses"]),
        line.get("failure", ""),
        tuple(line.get("lambdas", {}).items()),
        line.get(f"{split}_balanced_accuracy"),
        line.get("objectives", {}),
        {e: tuple(map(tuple, h)) for e, h in line.get("edges", {}).items()},
        tuple(map(tuple, line.get("candidates", []))),
    )


def times_of(line: Line) -> Line:
    """The times by which a run may have decided, of a trial.

    They are `seconds`, `elapsed` and `workers`: the trial's own, or where its run repeated another,
    those of that one.
    """
    told: Line | None = line.get("told")
    return told or {name: line[name] for name in ("seconds", "elapsed", "workers")}


def is_outdated(line: Line, timings: Iterable[Line]) -> bool:
    """Whether a run got more time after a trial was made; what ends it is made anew then.

    Args:
      line: of the trial.
      timings: the lines of what was decided by time.
    """
    return bool(times_of(line)["elapsed"] <= max(extended(timings), default=-1.0))


def extended(timings: Iterable[Line]) -> list[float]:
    """When a run got more time, in its seconds, by the lines of what was decided by time."""
    return [line["elapsed"] for line in timings if line["kind"] == EXTENSION]


def was_proposed(line: Line, proposal: Proposal, network: Deferred) -> bool:
    """Whether a line is of this proposal; those of early versions have no checksum of it.

    Args:
      line: of a trial.
      proposal: what is proposed now.
      network: its architecture, or what builds it.
    """
    if "spec" not in line:
        return bool(line["proposal"] == proposal_checksum(proposal, None))
    spec = resolved(network)
    if "proposal" in line:
        return bool(line["proposal"] == proposal_checksum(proposal, spec))
    edits = [edit_to_dict(edit) for edit in proposal.edits]
    return (line["parent"], line["edits"], from_dict(line["spec"])) == (
        proposal.parent,
        edits,
        spec,
    )


def network_of(line: Line, build: Build) -> Deferred:
    """The architecture of a trial, or what builds it."""
    if "spec" in line:
        return from_dict(line["spec"])
    return functools.partial(build, tuple(line["genotype"]), "search")


def trials_of(lines: Iterable[Line], build: Build) -> list[Trial]:
    """The trials of some lines, in the order of their proposals; see `trial_of`."""
    return [trial_of(line, build) for line in in_order(lines)]


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Lines in the order of their proposals, whichever was finished first."""
    return sorted(lines, key=_place)


def _place(line: Line) -> tuple[float, int]:
    return math.inf if line["kind"] in AFTER else line["step"], index_of(line)


def text_of(line: Line) -> bytes:
    """A line as it is written."""
    return json.dumps(with_checksum(line), allow_nan=False).encode()


class Lines(MutableMapping[Key, Line]):
    """Lines by name or step, in the order in which they were written.

    They are held as text, and read when they are wanted: a million dictionaries are gigabytes.
    """

    def __init__(self) -> None:
        self._texts: dict[Key, bytes] = {}

    def put(self, key: Key, text: bytes) -> None:
        """Add a line that is written already, behind all others."""
        self._texts.pop(key, None)
        self._texts[key] = text

    def __getitem__(self, key: Key) -> Line:
        line: Line = json.loads(self._texts[key])
        del line[CHECKSUM]
        return line

    def __setitem__(self, key: Key, line: Line) -> None:
        self.put(key, text_of(line))

    def __delitem__(self, key: Key) -> None:
        del self._texts[key]

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def __iter__(self) -> Iterator[Key]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_EARLY_CHILD = re.compile(r"step(\d{1,6})-child(\d{1,6})")


def check_name(name: str) -> None:
    """Raises `ValueError` unless a trial may have this name; files are named after trials."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a trial's name must begin with a letter or digit and go on with these, '_', '-' or "
            f"'.', 100 at most; got {name!r:.150}"
        )


def index_of(line: Line) -> int:
    """A trial's number within its step, from 0; early versions had it only in the name."""
    match = _EARLY_CHILD.fullmatch(line["name"])
    return int(line["index"] if "index" in line else int(match[2]) - 1 if match else 0)


_TYPES: dict[str, Any] = {
    **{"name": str, "kind": str, "step": int, "edits": list, "params": int, "flops": int},
    **{"train_losses": list, "seconds": dict, "elapsed": (int, float), "workers": int},
    **{"memory_bytes": int, "config": str},
}


#: What early versions did not write.
LATER: dict[str, Any] = {"recipe": str, "index": int, "proposal": str}

#: No loss in float32, and nothing that is counted, is as large as this.
_MOST = 1e40


def check_line(line: Line, what: str) -> None:
    """Raises `DamagedError` unless this is a line that `line_of` can have made."""
    try:
        if line["kind"] == DECISION:
            _check_decision(line)
            return
        if line["kind"] in (LENGTH, EXTENSION):
            _check_timing(line)
            return
        for name, kind in _TYPES.items():
            if not isinstance(line[name], kind):
                raise ValueError(f"{name} is a {type(line[name]).__name__}")
        name = line["name"]
        if not _NAME.fullmatch(name) or line["kind"] not in {"child", *_KINDS.values()}:
            raise ValueError(f"{name!r} is no name of a trial")
        split = "test" if line["kind"] == "final" else "validation"
        for key, kind in LATER.items():
            if not isinstance(line.get(key, kind()), kind):
                raise ValueError(f"{key} is a {type(line[key]).__name__}")
        numbers = [line[f"{split}_accuracy"], line[f"{split}_loss"], *line["train_losses"]]
        numbers.append(line.get(f"{split}_balanced_accuracy"))
        if not all(x is None or isinstance(x, int | float) for x in numbers):
            raise ValueError("an accuracy or a loss is no number")
        if not all(isinstance(line.get(key, ""), str) for key in ("failure", "place")):
            raise ValueError("a failure or a place is no text")
        measured = line.get("lambdas", {}) | line.get("objectives", {})
        if not all(isinstance(x, int | float) for x in measured.values()):
            raise ValueError("a lambda or an objective is no number")
        numbers += measured.values()
        for weights in line.get("edges", {}).values():
            numbers += [float(x) for of_epoch in weights for x in of_epoch]
        numbers += [int(place) for places in line.get("candidates", []) for place in places]
        if "supernet" in line:
            _genotype_in(line)
        parent = line["parent"]
        if parent is not None and not (isinstance(parent, str) and _NAME.fullmatch(parent)):
            raise ValueError("parent is no name of a trial")
        if ("failure" in line) != (numbers[0] is None):
            raise ValueError("a failed trial has an accuracy, or another trial has none")
        for times in (line, times_of(line)):
            Seconds(**times["seconds"])
            seconds = [*times["seconds"].values(), times["elapsed"], times["workers"]]
            if not all(isinstance(x, int | float) for x in seconds):
                raise ValueError("seconds are no numbers")
            numbers += seconds
        numbers += [line["params"], line["flops"]]
        if any(x is not None and abs(x) > _MOST for x in numbers):
            raise ValueError("a number is larger than any that a run has")
        for edit in line["edits"]:
            edit_from_dict(edit)
        if "spec" in line:
            from_dict(line["spec"])
        elif not isinstance(line["proposal"], str):
            raise ValueError("proposal is no checksum")
        elif not all(isinstance(place, int) for place in line["genotype"]):
            raise ValueError("a genotype has whole numbers")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f"{what} is damaged: {error}") from None


def _check_decision(line: Line) -> None:
    """Raises `ValueError` unless this is what a strategy said."""
    names = [line["incumbent"], *line["returned"], *line.get("dropped", {})]
    if not isinstance(arrived := line.get("arrived", []), list):
        raise ValueError("what arrived is no list")
    names += arrived
    if not isinstance(line["step"], int) or not isinstance(line["config"], str):
        raise ValueError("a decision has a step and a config")
    if not all(x is None or (isinstance(x, str) and _NAME.fullmatch(x)) for x in names):
        raise ValueError("a decision names what is no trial")
    if not all(isinstance(why, str) for why in line.get("dropped", {}).values()):
        raise ValueError("a trial is dropped without a reason")


def _check_timing(line: Line) -> None:
    """Raises `ValueError` unless this is a decision by time."""
    if not isinstance(line["config"], str):
        raise ValueError("a decision has a config")
    if line["kind"] == EXTENSION:
        if not isinstance(line["minutes"], int | float) or not 0 < line["minutes"] < _MOST:
            raise ValueError("an extension is no number of minutes")
        return
    if not (isinstance(line["name"], str) and _NAME.fullmatch(line["name"])):
        raise ValueError("a length is of what is no trial")
    if not all(isinstance(line[key], int) for key in ("done", "epochs")):
        raise ValueError("a length is no number of epochs")
    if not 0 < line["done"] < line["epochs"]:
        raise ValueError("a length is more epochs than are done")

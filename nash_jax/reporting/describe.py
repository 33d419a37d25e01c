"""A trial in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nash_jax.architecture import COSTS
from nash_jax.morphisms import Deepen, Edit, SkipAdd, SkipConcat, Widen
from nash_jax.search import Trial
from nash_jax.spaces import Supernet

#: Titles of `cells_of`.
CELLS = ("trial", "accuracy", "parameters", "MFLOPs", "seconds", "made by")


def cells_of(trial: Trial) -> tuple[str, ...]:
    """A trial as a row of a table."""
    return (
        trial.name,
        percent(trial.accuracy) or "failed",
        f"{trial.params:,}",
        f"{trial.flops / 1e6:,.2f}",
        f"{trial.estimate.seconds.total:.1f}",
        trial.estimate.failure or origin(trial),
    )


def percent(accuracy: float | None) -> str:
    """An accuracy for people; empty if there is none."""
    return "" if accuracy is None else f"{accuracy:.2%}"


def split_of(trial: Trial) -> str:
    """The images that it was judged on: 'test' or 'validation'."""
    return "test" if trial.recipe == "final" else "validation"


def describe_trial(trial: Trial, limits: Mapping[str, float] = MappingProxyType({})) -> str:
    """A trial in one line.

    Args:
      trial: the trial.
      limits: the bounds, by the name of what they bound.
    """
    failure = f": {trial.estimate.failure}" if trial.failed else ""
    used = "".join(f"  {share:4.0%} of max_{name}" for name, share in used_of(trial, limits))
    return (
        f"{trial.name:<13} {split_of(trial)} {percent(trial.accuracy) or 'failed':>7}  "
        f"{trial.params:>10,} parameters{used}  {trial.estimate.seconds.total:6.1f} s  "
        f"{origin(trial)}{failure}"
    )


def used_of(trial: Trial, limits: Mapping[str, float]) -> list[tuple[str, float]]:
    """What share of each bound a trial's network takes."""
    return [(name, COSTS[name](trial.spec) / most) for name, most in limits.items()]


def origin(trial: Trial) -> str:
    """What made a trial, in a few words."""
    if trial.recipe == "pretrain":
        return "pretraining"
    if trial.recipe == "baseline":
        return "model_0, trained for as many epochs as the best"
    if isinstance(trial.genotype, Supernet):
        return "all networks of the space, with shared weights"
    if trial.recipe == "shared":
        return f"with the weights of {trial.parent}"
    chosen = isinstance(trial.genotype, tuple)  # no edits made it
    if trial.recipe == "final" and chosen:
        return f"the genotype of {trial.parent}, trained with the validation images too"
    if trial.recipe == "final":
        return f"{trial.parent}, trained on with the validation images"
    if trial.recipe == "scratch":
        return "from scratch"
    if trial.recipe == "further":
        return f"{trial.parent}, trained on"
    if chosen:
        return f"from {trial.parent}" if trial.parent else "from scratch"
    return ", ".join(map(describe_edit, trial.edits)) or "no edits"


def describe_edit(edit: Edit) -> str:
    """An edit in a few words: `widen conv2 to 64`."""
    match edit:
        case Deepen():
            return f"deepen after {edit.after} ({edit.kernel_size}x{edit.kernel_size})"
        case Widen():
            return f"widen {edit.node} to {edit.features}"
        case SkipAdd():
            return f"skip {edit.source} to {edit.target} (add)"
        case SkipConcat():
            return f"skip {edit.source} to {edit.target} (concat)"
        case _:  # also those that users write
            return repr(edit)

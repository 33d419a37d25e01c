"""Several networks as one: the weighted mean of their probabilities (NASH, section 5.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Variables, numbered, renamed
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.training.compilation import Precision
from nash_jax.training.evaluate import Evaluation, all_logits, log_softmax, scores


class Predictions(NamedTuple):
    """What the members of an ensemble say of the same images.

    Attributes:
      log_probabilities: `[members, n, classes]`.
      seconds: of compiling, waiting and evaluating.
    """

    log_probabilities: np.ndarray
    seconds: tuple[float, float, float]


@usual_promotion
def predict_members(
    members: Sequence[tuple[Architecture, Variables]],
    examples: Examples,
    batch_size: int | None = None,
    precision: Precision = "float32",
    flip: bool = False,
) -> Predictions:
    """Every member's probabilities.

    Members of one architecture, up to the names of its nodes, are evaluated together by `jax.vmap`.

    Args:
      members: architectures with their variables.
      examples: images and labels.
      batch_size, precision, flip: as in `evaluate`.

    Raises:
      ValueError: if there are no members, or their classes differ in number.
    """
    if not members:
        raise ValueError("an ensemble needs members; got none")
    if len({spec.num_classes for spec, _ in members}) != 1:
        raise ValueError(
            "members of an ensemble must have as many classes; got "
            f"{[spec.num_classes for spec, _ in members]}"
        )
    groups: dict[Architecture, list[tuple[int, Variables]]] = {}
    for place, (spec, variables) in enumerate(members):
        graph, names = numbered(spec)
        groups.setdefault(graph, []).append((place, renamed(variables, names)))
    predictions: dict[int, np.ndarray] = {}
    times = np.zeros(3)
    for graph, group in groups.items():
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *(v for _, v in group))
        logits, *seconds = all_logits(graph, stacked, examples, batch_size, precision, flip, True)
        predictions |= {place: log_softmax(own) for (place, _), own in zip(group, logits)}
        times += seconds
    compiling, waiting, evaluating = map(float, times)
    return Predictions(
        np.stack([predictions[place] for place in range(len(members))]),
        (compiling, waiting, evaluating),
    )


def ensemble(
    members: Sequence[tuple[Architecture, Variables]],
    examples: Examples,
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
    precision: Precision = "float32",
    flip: bool = False,
) -> Evaluation:
    """Accuracy and loss of the mean of several networks' probabilities.

    Args:
      members: architectures with their variables.
      examples: images and labels.
      weights: of the members, >= 0, not all 0; by default all the same. `ensemble_weights` fits
        them.
      batch_size, precision, flip: as in `evaluate`.

    Raises:
      ValueError: if there are no members, the weights do not fit, or classes differ in number.
    """
    weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    if not members or len(weights) != len(members):
        raise ValueError(
            f"an ensemble needs members, each with a weight; got {len(members)} members and "
            f"{len(weights)} weights"
        )
    if not all(0 <= weight < np.inf for weight in weights) or sum(weights) == 0:
        raise ValueError(f"weights must be finite, >= 0 and not all 0; got {weights}")
    predictions = predict_members(members, examples, batch_size, precision, flip)
    shares = np.array(weights) / sum(weights)
    mean = np.tensordot(shares, np.exp(predictions.log_probabilities), axes=1)
    with np.errstate(divide="ignore"):  # a probability of 0 has an infinite loss
        return Evaluation(*scores(np.log(mean), examples.labels), *predictions.seconds)


def ensemble_weights(log_probabilities: np.ndarray, labels: Any) -> np.ndarray:
    """The weights of an ensemble's members under which some labels are the most likely.

    The likelihood of a mixture is concave in its weights; expectation maximisation climbs it.

    Args:
      log_probabilities: of the members, `[members, n, classes]`, on images that none of them was
        trained on.
      labels: `[n]`.

    Returns:
      Weights `[members]`, >= 0, of sum 1.

    >>> sure, wrong = np.log([[0.9, 0.1], [0.2, 0.8]]), np.log([[0.4, 0.6], [0.7, 0.3]])
    >>> ensemble_weights(np.stack([sure, wrong]), np.array([0, 1])).round(2).tolist()
    [1.0, 0.0]
    """
    rows = np.arange(len(labels))
    right = np.exp(log_probabilities[:, rows, np.asarray(labels)]) + 1e-30
    weights = np.full(len(right), 1 / len(right))
    for _ in range(10_000):
        shares = weights[:, None] * right
        new = (shares / shares.sum(axis=0)).mean(axis=1)
        moved = np.abs(new - weights).max()
        weights = new
        if moved < 1e-9:
            break
    return weights

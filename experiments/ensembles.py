"""Ensembles of the networks of one run, and across runs (NASH, section 5.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.study import Study
from experiments.tables import Outcome
from nash_jax.runs import RunView, load
from nash_jax.training import ensemble, ensemble_weights, predict_members


def snapshots(study: Study, run: RunView) -> list[RunView]:
    """The best network of every step of a run, trained on training and validation set.

    Each training goes on from the weights that the search left. The last item is the run itself.
    Networks that cannot be trained are left out.
    """
    return [
        *(
            trained
            for trial in run.chosen[1:-1]
            for trained in study.trained(
                f"snapshot{trial.step}-{run.workdir.name.rpartition('-')[0]}",
                run,
                run.workdir / "networks" / f"{trial.name}.safetensors",
                study.config.recipes.epochs_final,
            )
        ),
        run,
    ]


def snapshot_ensemble(study: Study, run: RunView, fitted: bool) -> list[Outcome]:
    """The best networks of every step as one: one outcome, or none if one cannot be trained.

    Args:
      study: the study.
      run: of hill climbing.
      fitted: whether to weight the members so that they are best on the validation images, as the
        search left them (before they were trained on these images); else all weights are equal.
    """
    members, weights = snapshots(study, run), None
    if len(members) < len(run.chosen) - 1:
        return []
    if fitted:
        left = [load(run.workdir, trial.name) for trial in run.chosen[1:]]
        valid = study.problem(run).valid
        predictions = predict_members(left, valid, **run.config.recipes.training.evaluation)
        weights = ensemble_weights(predictions.log_probabilities, valid.labels).tolist()
    return [together(study, members, weights)]


def together(
    study: Study, members: Sequence[RunView], weights: Sequence[float] | None = None
) -> Outcome:
    """What the networks of several runs give as one; its cost is that of all of them."""
    networks = [load(run.workdir) for run in members]
    evaluation = study.config.recipes.training.evaluation
    result = ensemble(networks, study.dataset.test, weights, **evaluation)
    each = study.outcomes(members)
    return Outcome(
        100 * (1 - result.accuracy),
        *(sum(getattr(outcome, name) for outcome in each) for name in Outcome._fields[1:]),
    )

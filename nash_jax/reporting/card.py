"""The list of best practices of a paper's appendix, filled in from records of runs, in Markdown.

Source: Yang, Esperança and Carlucci, "NAS evaluation is frustratingly hard" (ICLR 2020), section 6.
What a record knows is said, what is absent is said to be absent with the command that would make
it, and what only the authors know is left to them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from nash_jax.evaluation import mean_interval, relative_improvement
from nash_jax.record.lines import EXTENSION
from nash_jax.reporting.compare import groups
from nash_jax.reporting.describe import percent
from nash_jax.reporting.view import RunView
from nash_jax.search import Trial
from nash_jax.text import mean_and_deviation, printable

#: The usual treatment of images, which is no trick.
USUAL = {"crop_padding": "random crops, pixels of padding", "flip": "random flips"}
#: Settings that make training better whatever is trained; all are off at 0.
TRICKS = {
    "cutout": "cutout, pixels",
    "label_smoothing": "label smoothing",
    "clip_norm": "clipped gradients, largest norm",
    "drop_path": "drop path, share at the end",
    "auxiliary_weight": "auxiliary tower, weight of its loss",
    "flip_test": "mean over the image and its mirror image in evaluations",
}
#: Settings for which `nash search` has other defaults than a config, or which should be seen.
_ALWAYS = ("dataset", "max_flops", "precision")
#: The FLOPs of a training step, in forward passes: a backward pass takes about two.
_PASSES = 3


def card(runs: Sequence[RunView]) -> str:
    """The cards of some runs: one for those that differ only in their seed, else one each.

    Args:
      runs: the runs; they may still go on.
    """
    cards, rest = [], list(runs)
    for data in dict.fromkeys(run.about.get("data") for run in runs):
        for group in groups([run for run in runs if run.about.get("data") == data]):
            cards.append(group)
            rest = [run for run in rest if run not in group]
    cards += [[run] for run in rest]
    return "\n\n\n".join(_card(group, runs) for group in cards) + "\n"


def _card(group: Sequence[RunView], runs: Sequence[RunView]) -> str:
    """The card of runs that differ only in their seed, beside all runs that are known."""
    values = group[0].config.values()
    what = f"{values['strategy']} in space {values['space']} on {values['dataset']}"
    sections: dict[str, Iterable[str]] = {
        "What was found": _found(group),
        "What the images decided": _images(group[0]),
        "Code, data and seeds": _release(group),
        "Training protocol": _protocol(group),
        "Training tricks": _tricks(group[0], runs),
        "Random networks of the same space": _random(group, runs),
        "Other data sets": _data_sets(group[0], runs),
        "Ablations": _ablations(group),
        "Cost": _cost(group),
        "Tuning": _tuning(),
        "Hardware": _hardware(group),
    }
    text = [
        f"# Best-practice card: {_plain(what)}",
        'The list of section 6 of Yang, Esperança and Carlucci, "NAS evaluation is frustratingly '
        f'hard" (ICLR 2020), from what {_places(group)} recorded.',
    ]
    for title, lines in sections.items():
        text += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(text)


def _found(group: Sequence[RunView]) -> Iterable[str]:
    head = ("seed", "test accuracy", "parameters", "MFLOPs", "networks tried", "failed", "seconds")
    yield from _table(head, map(_row, group))
    yield ""
    accuracies = _accuracies(group)
    if not accuracies:
        yield f"- **Absent**: a test accuracy: the run is {group[0].state}."
    if len(accuracies) < 2:
        command = _search(group[0], seed=group[0].config.seed + 1)
        yield (
            "- **Absent**: deviation and interval over seeds, which need two of them: run "
            f"{command}, then `nash card` with all folders."
        )
        return
    _, low, high = mean_interval(accuracies)
    yield (
        f"- Test accuracy over {len(accuracies)} seeds, mean and standard deviation: "
        f"{mean_and_deviation(accuracies)}%; Student's 95% interval of the mean: {low:.2f} to "
        f"{high:.2f}%."
    )


def _row(run: RunView) -> list[str]:
    best = run.best
    return [
        str(run.config.seed),
        percent(run.final.accuracy) if run.final else run.state,
        f"{best.params:,}" if best else "",
        f"{best.flops / 1e6:,.2f}" if best else "",
        str(len(run.tried)),
        str(len(run.failures)),
        f"{run.seconds:,.0f}",
    ]


def _images(run: RunView) -> Iterable[str]:
    sizes = run.about.get("images")
    data = f"Data: {_code(run.data_name)}, fingerprint {_code(run.about.get('data'))}"
    if sizes:
        yield (
            f"- {data}: {sizes['train']:,} images to train on, {sizes['validation']:,} to validate "
            f"on, {sizes['test']:,} to test on."
        )
    else:
        yield f"- {data}. **Absent**: how many images; that version did not record it."
    yield (
        f"- The validation images decided whatever the search chose, by {run.config.metric}. The "
        "final network is trained on training and validation images."
    )
    yield (
        "- The test images were read once, by the final network, after the search had ended; the "
        "search cannot depend on them."
    )
    if run.config.minutes:
        yield (
            f"- Time decided too: the run had {run.config.minutes:g} min. Each such decision is "
            "recorded, and `nash reproduce` follows it. Sizes that neither flags nor a preset gave "
            "were planned by the machine's pace, and flips by the validation images."
        )
    if run.config.trial_order == "arrival":
        yield (
            "- The strategy was told of trials in the order of their arrival, which the machines "
            "decided. It is recorded, and `nash reproduce` follows it."
        )
    if more := [f"{x['minutes']:g}" for x in run.timings if x["kind"] == EXTENSION]:
        yield (
            f"- It got {' and '.join(more)} min more; a final network that stood before was tested "
            f"too. {_open('whether that test decided to go on.')}"
        )


def _release(group: Sequence[RunView]) -> Iterable[str]:
    about = group[0].about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    python = about.get("python", "not recorded")
    yield f"- Versions: {_plain(versions) or 'not recorded'}; Python {_plain(python)}."
    commit = about.get("commit")
    dirty = str(commit).endswith("-dirty")
    yield f"- Commit of the code: {_code(commit) if commit else 'not recorded'}" + (
        ", **with changes that no commit has**." if dirty else "."
    )
    yield f"- {_open('where the code can be had, and its licence.')}"
    kind, _, name = group[0].data_name.partition(":")
    if kind == "digits":
        yield "- The data come with scikit-learn."
    elif kind == "tfds":
        yield f"- The data are {_code(name)} of TensorFlow Datasets."
    else:
        yield f"- {_open('where the data can be had; their fingerprint stands above.')}"
    seeds = ", ".join(str(run.config.seed) for run in group)
    yield f"- Seed of each run, which decides all that is random in it: {seeds}."
    yield "- Architecture and weights: `networks/final.safetensors` in each folder."
    yield f"- {_open('where these networks can be had.')}"
    for run in group:
        begun = shlex.join(run.about["command"])
        again = _code(shlex.join(["nash", "reproduce", str(run.workdir)]))
        yield f"- {_code(run.workdir)} was begun by {_code(begun) if begun else 'a program'}" + (
            f"; {again} makes it again, and compares bit by bit." if run.final else "."
        )


def _protocol(group: Sequence[RunView]) -> Iterable[str]:
    settings = [s for s in group[0].config.settings() if s.name not in ("dataset", "seed")]
    changed = [each for each in settings if each.value != each.default]
    yield "Settings that are not the defaults, which are the paper's (Elsken et al. 2017):"
    yield ""
    rows = ([_code(s.name), _code(_value(s.value)), _code(_value(s.default))] for s in changed)
    yield from _table(("setting", "value", "default"), rows)
    yield ""
    others = [each for each in settings if each not in changed and each.value != ""]
    said = " ".join(f"{each.name}={_value(each.value)}" for each in others)
    yield f"All others: {_code(said)}."
    if epochs := sorted({len(run.final.estimate.train_losses) for run in group if run.final}):
        yield ""
        yield f"Epochs of the final training: {', '.join(map(str, epochs))}."


def _tricks(run: RunView, runs: Sequence[RunView]) -> Iterable[str]:
    on = _tricks_on(run)
    usual = {name: run.config.values()[name] for name in USUAL}
    rows = [[what, _value(usual[name] or "off")] for name, what in USUAL.items()]
    rows += [[what, _value(on.get(name, "off"))] for name, what in TRICKS.items()]
    yield from _table(("in all trainings", ""), rows)
    yield ""
    without = [other for other in _alike(run, runs, TRICKS) if not _tricks_on(other)]
    if not on:
        yield "- Beside the usual crops and flips, no trick is on."
    elif without:
        yield f"- Without any trick: test accuracy {_mean(without)}."
    else:
        off = {name: type(value)(0) for name, value in on.items()}
        yield f"- **Absent**: the result without tricks: run {_search(run, **off)}."


def _tricks_on(run: RunView) -> dict[str, Any]:
    """The tricks that have an effect, by their settings."""
    values = run.config.values()
    on = {name: values[name] for name in TRICKS if values[name]}
    return {name: x for name, x in on.items() if name != "flip_test" or values["flip"]}


def _random(group: Sequence[RunView], runs: Sequence[RunView]) -> Iterable[str]:
    first = group[0]
    values = first.config.values()
    epochs = {len(run.final.estimate.train_losses) for run in group if run.final}
    free = {s.name for s in first.config.settings() if s.group == "strategy"}
    free |= {"strategy", "num_samples", "num_edits"}
    if first.config.minutes:
        free |= {"minutes", "epochs_final"}
    drawn = [
        run
        for run in _alike(first, runs, free)
        if run.strategy == "random_search" and run.config.strategy.num_samples == 1
        if run.final and len(run.final.estimate.train_losses) in epochs
    ]
    if first in drawn:
        yield "- These are random networks themselves: each is the only one that its run has drawn."
    elif drawn:
        improvement = relative_improvement(_accuracies(group), _accuracies(drawn))
        yield f"- Random networks with the same final training: test accuracy {_mean(drawn)}."
        yield f"- Relative improvement over them: {improvement:+.2f}%."
    else:
        alike: dict[str, Any] = {"strategy": "random_search", "num_samples": 1, "seed": 0}
        if edits := first.config.strategy.num_edits(values.get("num_edits", 0)):
            alike |= {"num_edits": edits} if "num_edits" in values else {}
        if first.config.minutes and epochs:  # else the clock would decide how long they train
            alike |= {"minutes": 0.0, "epochs_final": max(epochs)}
        yield (
            "- **Absent**: random networks of the space, with the same final training, without "
            f"which a search cannot be judged: run {_search(first, **alike)}, and with other "
            "seeds, then `nash card` with all folders."
        )


def _data_sets(first: RunView, runs: Sequence[RunView]) -> Iterable[str]:
    data = first.about.get("data")
    others = {run.data_name for run in runs if run.about.get("data") != data}
    if others:
        names = ", ".join(map(_code, sorted(others)))
        yield f"- Cards of other data sets stand beside this one: {names}."
    else:
        yield f"- **Absent**: other data sets: run {_search(first, dataset='DATA')}."


def _ablations(group: Sequence[RunView]) -> Iterable[str]:
    for run in group:
        if run.baseline and run.chosen:
            yield (
                f"- Seed {run.config.seed}, on the validation images: the first network, trained "
                f"for as many epochs as the best, {percent(run.baseline.accuracy) or 'failed'}; "
                f"the best of the search {percent(run.chosen[-1].accuracy)}."
            )
        else:
            yield (
                "- **Absent**: the first network, trained for as many epochs as the best of "
                f"{_code(run.workdir)}: run {_search(run, run.workdir, baseline=True)}."
            )
    yield f"- {_open('what each part of the method is worth: runs without it.')}"


def _cost(group: Sequence[RunView]) -> Iterable[str]:
    head = ["seed", "networks", "epochs", "search, PFLOP", "search, s"]
    head += ["final training, PFLOP", "final training, s"]
    yield from _table(head, map(_costs, group))
    yield ""
    yield (
        "- FLOPs are counted, not measured: multiplications and additions of a forward pass, "
        f"times {_PASSES} for a training step, times images and epochs (of smaller images, with "
        "their FLOPs); of a supernet, all of it. "
        "Evaluations are not counted. Seconds are of a clock, with compiling and without stops."
    )


def _costs(run: RunView) -> list[str]:
    final = [run.final] if run.final else []
    return [
        str(run.config.seed),
        str(len(run.tried)),
        str(sum(len(trial.estimate.train_losses) for trial in run.tried)),
        _petaflops(run, run.tried),
        f"{max((trial.elapsed for trial in run.tried), default=0.0):,.0f}",
        _petaflops(run, final),
        f"{sum(trial.estimate.seconds.total for trial in final):,.0f}",
    ]


def _petaflops(run: RunView, trials: Iterable[Trial]) -> str:
    """What trainings took, if the numbers of images are recorded."""
    sizes = run.about.get("images")
    if not sizes:
        return "not recorded"
    total = 0.0
    for trial in trials:
        recipe = run.recipes[trial.recipe]
        batch, whole = recipe.training.batch_size, recipe.mean_work(trial.spec)
        images = sizes["train"] + (sizes["validation"] if trial.recipe == "final" else 0)
        updates = images // batch * len(trial.estimate.train_losses)
        total += _PASSES * trial.flops * whole * batch * updates
    return f"{total / 1e15:.3g}"


def _tuning() -> Iterable[str]:
    yield f"- {_open('which settings were tuned, and by how many runs beside these.')}"
    yield f"- {_open('on which images; if on test images, the test accuracy is too high.')}"
    yield f"- {_open('what tuning cost; it is part of the cost of the search.')}"


def _hardware(group: Sequence[RunView]) -> Iterable[str]:
    for run in group:
        device, cpu, cores = (
            _plain(run.about.get(name, "not recorded")) for name in ("device", "cpu", "num_cpus")
        )
        workers = max((trial.workers for trial in run.tried), default=0)
        yield (
            f"- {_code(run.workdir)}: device {device}, processor {cpu}, cores {cores}; networks "
            f"side by side: {workers}."
        )
    about = group[0].about
    deciding = {name: about.get(name) for name in ("NPROC", "XLA_FLAGS")}
    deciding |= about.get("jax_settings") or {}
    said = " ".join(f"{name}={value}" for name, value in deciding.items())
    precision = group[0].config.recipes.training.precision
    yield f"- Precision {precision}; what else decides the last bits: {_code(said)}."
    yield f"- {_open('memory, and what else ran on the machine meanwhile.')}"


def _alike(first: RunView, runs: Sequence[RunView], names: Collection[str]) -> list[RunView]:
    """The finished runs on the same data that differ in their seed and these settings alone."""

    def rest(run: RunView) -> Mapping[str, Any]:
        ignored = {*names, "seed", "dataset"}
        known = {name: x for name, x in run.config.values().items() if name not in ignored}
        return {**known, "data": run.about.get("data")}

    return [run for run in runs if run.final and rest(run) == rest(first)]


def _search(run: RunView, workdir: object = "NEW", **changed: Any) -> str:
    """The command of a run like this one, with some flags changed."""
    kept = {
        setting.name: setting.value
        for setting in run.config.settings()
        if setting.value != setting.default or setting.name in _ALWAYS
        if "strategy" not in changed or setting.group != "strategy"
    }
    settings = kept | changed
    if settings.get("minutes"):
        settings = {"preset": "paper", **settings}  # else its sizes would be planned anew
    flags = [_flag(name, value) for name, value in settings.items()]
    return _code(shlex.join(["nash", "search", *flags, f"--workdir={workdir}"]))


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={_value(value)}"


def _accuracies(runs: Sequence[RunView]) -> list[float]:
    """Of the final networks, on the test images, in percent."""
    return [100 * run.final.estimate.accuracy for run in runs if run.final]


def _mean(runs: Sequence[RunView]) -> str:
    """Mean and deviation of the test accuracy, and the folders."""
    return f"{mean_and_deviation(_accuracies(runs))}% ({_places(runs)})"


def _places(runs: Sequence[RunView]) -> str:
    return ", ".join(_code(run.workdir) for run in runs)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _open(what: str) -> str:
    """What only the authors know."""
    return f"**To be filled in**: {what}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _code(text: object) -> str:
    """A text as code; it may be anything, also in a table."""
    words = printable(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", words)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {words} {fence}" if longest or not words else f"{fence}{words}{fence}"


def _plain(text: object) -> str:
    """A text that is no Markdown, whatever it is."""
    return re.sub(r"([\\`*_<>\[\]|#&])", r"\\\1", printable(text))

"""What a run can start from, and where its children's weights and rates come from."""

import dataclasses
import json

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import TINY, Silent, history, own_tables, run

import nash_jax as nj
from nash_jax import data, morphisms, ops, runs, training
from nash_jax.estimation import (
    ESTIMATORS,
    Estimate,
    Images,
    Job,
    Network,
    Outcome,
    Recipe,
    Seconds,
    Tools,
    grow,
    perform,
)

KEY = jax.random.key(0)
ALONE = TINY.replace(num_steps=0, epochs_pretrain=0, epochs_final=1)


@pytest.fixture(scope="module")
def digits():
    return data.load_dataset("digits")


@pytest.fixture(scope="module")
def problem(digits):
    return runs.prepare(TINY, digits)


@pytest.mark.parametrize(
    ("name", "depth", "channels"), [("resnet-8", 7, 64), ("wrn-10-2", 10, 128)]
)
def test_hand_made_networks_are_known_by_name(name, depth, channels, digits):
    spec = runs.prepare(ALONE.replace(model_0=name), digits).model_0
    convs = [node for node in spec.nodes if isinstance(node.op, ops.Conv)]
    assert len(convs) == depth
    assert spec.shapes[spec.nodes[-2].name] == (channels,)
    assert isinstance(spec.nodes[0].op, ops.Normalize)
    assert spec.num_classes == 10


def test_a_run_starts_from_an_architecture_or_a_network_of_a_file(digits, tmp_path):
    spec = nj.chain((8, 8, 1), 10, (3,))
    variables = nj.init(spec, jax.random.key(5))
    (tmp_path / "net.json").write_text(nj.to_json(spec))
    runs.save_network(tmp_path / "net.safetensors", spec, variables)
    start = runs.prepare(ALONE.replace(model_0=str(tmp_path / "net.safetensors")), digits).start
    assert start.spec == spec
    chex.assert_trees_all_equal(start.variables, variables)
    start = runs.prepare(ALONE.replace(model_0=str(tmp_path / "net.json")), digits).start
    assert (start.spec, start.variables) == (spec, None)


def test_a_network_is_trained_on_from_its_weights_without_a_search(digits, tmp_path):
    spec = nj.chain((8, 8, 1), 10, (3,))
    variables = nj.init(spec, jax.random.key(5))
    file = tmp_path / "a" / "net.safetensors"
    file.parent.mkdir()
    runs.save_network(file, spec, variables)
    config = ALONE.replace(model_0=str(file))
    result = run(config, tmp_path / "run", Silent())
    assert [trial.name for trial in result.history] == ["model_0", "final"]
    problem = runs.prepare(config, digits)
    before = training.evaluate(spec, variables, problem.valid)
    assert result.history[0].accuracy == before.accuracy
    # The file is known by its content: it may move, and may not change.
    (tmp_path / "b").mkdir()
    moved = file.rename(tmp_path / "b" / "net.safetensors")
    config = config.replace(model_0=str(moved))
    again = run(config, tmp_path / "run", Silent())
    assert history(again.history) == history(result.history)
    runs.save_network(moved, spec, nj.init(spec, jax.random.key(6)))
    with pytest.raises(ValueError, match="settings that it began with; network was"):
        run(config, tmp_path / "run", Silent())


def test_a_run_starts_from_what_flax_users_have(digits, tmp_path):
    """A training state in a manager's step, of which the variables are read."""
    spec = nj.chain((8, 8, 1), 10, (3,))
    variables = nj.init(spec, jax.random.key(5))
    state = {**variables, "opt_state": ({"mu": jax.numpy.zeros(3)},), "step": 7}
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(7, args=ocp.args.StandardSave(state))
    config = ALONE.replace(model_0=str(tmp_path))
    with pytest.raises(ValueError, match="must have a file spec.json, the architecture; nash exp"):
        runs.prepare(config, digits)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(ValueError, match="spec.json is no architecture: "):
        runs.prepare(config, digits)
    (tmp_path / "spec.json").write_text(nj.to_json(spec))
    start = runs.prepare(config, digits).start
    assert start.spec == spec
    chex.assert_trees_all_equal(start.variables, variables)
    metadata = tmp_path / "7" / "default" / "_METADATA"
    for other, message in (
        (nj.chain((8, 8, 1), 10, (4,)), r"bn1/mean is \[3\] there, \[4\] here; put the"),
        (nj.chain((8, 8, 1), 10, (3, 3)), "it lacks batch_stats/bn2/mean"),
    ):
        (tmp_path / "spec.json").write_text(nj.to_json(other))
        with pytest.raises(ValueError, match=message):
            runs.prepare(config, digits)
    (tmp_path / "spec.json").write_text(nj.to_json(spec))
    metadata.write_bytes(metadata.read_bytes()[:50])
    with pytest.raises(ValueError, match="cannot be read by orbax: ") as caught:
        runs.prepare(config, digits)
    assert "\n" not in str(caught.value)
    metadata.unlink()
    with pytest.raises(ValueError, match="must have one orbax checkpoint beside spec.json; got no"):
        runs.prepare(config, digits)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.json", "{}", "net.json is no architecture: "),
        ("net.json", b"\xff\xfe", "net.json is no architecture: "),
        ("net.json", nj.to_json(nj.chain((8, 8, 3), 10, (3,))), "for images of .8, 8, 3. and 10"),
        ("net.json", nj.to_json(nj.chain((8, 8, 1), 9, (3,))), "and 9 classes; the data have"),
        ("net.safetensors", "x", "net.safetensors is damaged"),
    ],
)
def test_a_file_that_is_no_start_is_one_clear_error(name, content, message, digits, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        runs.prepare(ALONE.replace(model_0=str(tmp_path / name)), digits)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def best(problem):
    return Network(problem.model_0, nj.init(problem.model_0, KEY))


def grown(best, problem, edits, **changes):
    """The weights that a child begins with."""
    spec = morphisms.Sequence(edits).rewrite(best.spec)
    recipe = TINY.replace(**changes).recipes.by_name()["brief"]
    key = jax.device_get(jax.random.key_data(KEY))
    return spec, grow(Job("child", spec, key, recipe, "best", edits), best, problem.train)


EDITS = (morphisms.Widen("conv2", 12), morphisms.Deepen("relu1", 3))


def test_a_child_by_morphism_computes_what_its_parent_does(best, problem):
    spec, variables = grown(best, problem, EDITS)
    images = problem.valid.images[:20]
    expected = nj.apply(best.spec, best.variables, images)
    np.testing.assert_allclose(nj.apply(spec, variables, images), expected, rtol=1e-3, atol=1e-4)


def test_a_child_by_name_inherits_unchanged_layers_alone(best, problem):
    spec, variables = grown(best, problem, EDITS, inherit="by_name")
    fresh = nj.init(spec, jax.random.split(KEY, 3)[0])
    old, new = best.variables["params"], variables["params"]
    chex.assert_trees_all_equal(new["conv1"], old["conv1"])
    chex.assert_trees_all_equal(new["bn1"], old["bn1"])
    for node in set(new) - {"conv1", "bn1"}:  # new, wider, or behind what is wider
        chex.assert_trees_all_equal(new[node], fresh["params"][node])
    assert {"conv2", "bn2", "dense"} < set(new)


def test_a_child_that_inherits_nothing_is_drawn_anew_edited_or_not(best, problem):
    for edits in (EDITS, ()):
        spec, variables = grown(best, problem, edits, inherit="nothing")
        chex.assert_trees_all_equal(variables, nj.init(spec, jax.random.split(KEY, 3)[0]))
    _, variables = grown(best, problem, (), inherit="by_name")
    assert variables is best.variables


def test_inheritance_by_name_runs_under_jit(best):
    after = morphisms.Widen("conv2", 12).rewrite(best.spec)
    by_name = morphisms.inherit_by_name
    jitted = jax.jit(lambda variables, key: by_name(best.spec, variables, after, key))
    found = jitted(best.variables, KEY)
    expected = by_name(best.spec, best.variables, after, KEY)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


def test_a_constant_rate_is_that_of_the_children_alone():
    config = TINY.replace(constant_lr=0.02)
    rates = training.learning_rates(config.recipes.of_children, 5)
    np.testing.assert_allclose(rates, 0.02, rtol=1e-6)
    assert config.recipes.training == TINY.recipes.training
    assert TINY.recipes.of_children == TINY.recipes.training


def test_a_constant_rate_and_weights_by_name_make_other_children(tmp_path):
    """The same edits of the same model_0: only what the children learn differs."""
    small = TINY.replace(num_steps=1, num_neighbours=2, epochs_final=0)
    lines = [
        run(small.replace(**changes), None, Silent()).history
        for changes in ({}, {"constant_lr": 0.05}, {"inherit": "by_name"})
    ]
    for other in lines[1:]:
        assert other[0].estimate.train_losses == lines[0][0].estimate.train_losses
        assert other[1].edits == lines[0][1].edits
        assert other[1].estimate.train_losses != lines[0][1].estimate.train_losses
    assert (
        lines[2][2].estimate.train_losses == lines[0][2].estimate.train_losses
    )  # nothing new in the parent


def test_a_skip_that_is_no_morphism_begins_between_its_branches(best, problem):
    edits = (morphisms.SkipAdd("relu1", "relu2"),)
    for inherit, weight in (("morphism", 1.0), ("by_name", 0.5)):
        _, variables = grown(best, problem, edits, inherit=inherit)
        (found,) = [x["lambda"] for x in variables["params"].values() if "lambda" in x]
        assert found == weight


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        ({"accuracy": np.float32(0.5), "objectives": {"ms": np.float32(3)}}, ""),
        ({"accuracy": float("nan")}, "diverged: the estimator found accuracy nan"),
        ({"accuracy": 0.5, "objectives": {"ms": np.inf}}, "diverged: the estimator found ms inf"),
        ({"accuracy": 0.5, "required_bytes": np.int64(8), "balanced_accuracy": np.float32(1)}, ""),
        (
            {"accuracy": 0.5, "train_losses": (1.0, np.nan)},
            "diverged: the estimator found train_losses[1] nan",
        ),
    ],
)
def test_what_an_estimator_finds_can_be_recorded(found, failure, digits):
    images = Images(digits.train, digits.train, digits.test)

    def estimator(job, variables, images, tools):
        assert len(images.test) == 0
        return Outcome(Estimate(**{"loss": np.float64(1), "seconds": Seconds(), **found}), None)

    with own_tables():
        ESTIMATORS["mine"] = estimator
        recipe = Recipe(1, training.TrainingSettings(), "nothing", estimator="mine")
        key = jax.device_get(jax.random.key_data(KEY))
        job = Job("a", nj.chain((8, 8, 1), 10, (4,)), key, recipe)
        estimate = perform(job, images, None, Tools()).estimate
    assert estimate.failure == failure
    line = dataclasses.asdict(estimate)
    json.dumps({name: value for name, value in line.items() if name != "loss"}, allow_nan=False)
    assert estimate.seconds.total > 0
    with pytest.raises(ValueError, match="estimator mine must be known in every process"):
        perform(job, images, None, Tools())


def test_a_search_on_smaller_images_has_the_same_weights_and_small_validation_images(digits):
    settings = training.TrainingSettings(batch_size=50, crop_padding=2)
    part = digits.train.take(np.arange(200))
    images = Images(part, part, digits.test)
    spec = nj.vgg((8, 8, 1), 10, (4,), nj.ops.Normalize((78.0,), (96.0,)))
    widen = nj.morphisms.Widen(node="conv2", features=6)
    parent, numbers = Network(spec, nj.init(spec, KEY)), jax.device_get(jax.random.key_data(KEY))
    recipe = Recipe(1, settings, smaller=True)
    child = Job("a", widen.rewrite(spec), numbers, recipe, "b", (widen,))
    found = perform(child, images, parent, Tools())
    # The same by hand, with images of 5x5 and crops of 1 pixel.
    small, of_parent = (nj.training.smaller(x) for x in (child.spec, spec))
    assert small.input_shape == (5, 5, 1)
    part = nj.training.smaller_examples(part, (5, 5))
    assert (part.images.shape, part.images.dtype) == ((200, 5, 5, 1), np.uint8)
    recipe = Recipe(1, dataclasses.replace(settings, crop_padding=1))
    by_hand = Job("a", small, numbers, recipe, "b", (widen,))
    parent = parent._replace(spec=of_parent)
    wanted = perform(by_hand, Images(part, part, digits.test), parent, Tools())
    chex.assert_trees_all_equal(found.variables, wanted.variables)
    assert found.estimate.accuracy == wanted.estimate.accuracy
    assert nj.apply(child.spec, found.variables, images.train.images[:2]).shape == (2, 10)


@pytest.mark.parametrize("given", [{"model_0": "chain"}, {"space": "nb201"}])
def test_a_search_on_smaller_images_needs_weights_that_fit_them(given, digits):
    config = runs.Config().replace(**given)
    with pytest.raises(ValueError, match="smaller_search needs .* take --nosmaller_search"):
        runs.prepare(config.replace(smaller_search=True), digits)
    recipes = config.replace(smaller_search=True).recipes.by_name()
    assert [name for name, recipe in recipes.items() if not recipe.smaller] == ["final"]


def test_the_work_of_smaller_images_is_counted_as_what_it_is():
    spec, config = nj.vgg((32, 32, 3), 10, (4, 8)), runs.Config().replace(model_0="vgg")
    cost = nj.count_flops(nj.vgg((20, 20, 3), 10, (4, 8))) / nj.count_flops(spec)
    recipes = config.replace(smaller_search=True, progressive_resizing=0.5).recipes.by_name()
    assert recipes["pretrain"].mean_work(spec) == recipes["brief"].mean_work(spec) == cost
    assert recipes["final"].mean_work(spec) == pytest.approx((1 + cost) / 2)
    assert {recipe.mean_work(spec) for recipe in config.recipes.by_name().values()} == {1.0}


def test_too_little_memory_is_that_of_whole_images(digits):
    spec = nj.vgg((8, 8, 1), 10, (4,))
    images = Images(digits.train, digits.train, digits.test)
    settings = training.TrainingSettings(batch_size=50)
    numbers = jax.device_get(jax.random.key_data(KEY))
    job = Job("a", spec, numbers, Recipe(1, settings, "nothing", smaller=True))
    found = perform(job, images, None, Tools(max_bytes=1_000)).estimate
    assert found.failure.endswith("0.00 GiB are allowed")
    small = dataclasses.replace(job, spec=training.smaller(spec))
    small = dataclasses.replace(small, recipe=dataclasses.replace(job.recipe, smaller=False))
    part = training.smaller_examples(digits.train, (5, 5))
    alone = perform(small, Images(part, part, digits.test), None, Tools(max_bytes=1_000)).estimate
    cost = training.cost_of_smaller(spec)
    assert found.required_bytes == int(alone.required_bytes / cost)
    never = dataclasses.replace(job, spec=nj.chain((8, 8, 1), 10, (4,)))
    failure = perform(never, images, None, Tools()).estimate.failure
    assert failure == "its weights or maps do not fit smaller images"

"""The PyTorch side of the benchmarks computes what nash_jax computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, ops, training
from nash_jax.data import Examples

torch = pytest.importorskip("torch")
from benchmarks import torch_network  # noqa: E402

SETTINGS = training.TrainingSettings(batch_size=6, crop_padding=0, flip=False, weight_decay=0.01)
POOLS = [
    ops.MaxPool(3, 2, "SAME"),
    ops.MaxPool(2, 1, "SAME"),
    ops.AvgPool(3, 2, "SAME"),
    ops.AvgPool((2, 3), 1, "SAME"),
    ops.MaxPool(1, 2, "SAME"),
    ops.AvgPool(3, 2),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """As for JAX in these tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same_logits(spec):
    variables, images = random_variables(spec), random_images(spec)
    network = torch_network.TorchNetwork(spec).eval()
    torch_network.load(network, variables)
    with torch.inference_mode():
        theirs = network(torch_network.pixels(images)).numpy()
    ours = np.asarray(nj.apply(spec, variables, images))
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()


@pytest.mark.parametrize("name", ZOO)
def test_logits_are_ours(name):
    assert_same_logits(ZOO[name]())


@pytest.mark.parametrize("op", [*POOLS, ops.Conv(3, (2, 5), (2, 3)), ops.Conv(3, 4, dilation=2)])
def test_padding_is_ours(op):
    """Windows and strides that pad more on one side than on the other."""
    nodes = [
        Node("x", op, "input"),
        Node("flat", ops.Flatten(), "x"),
        Node("y", ops.Dense(3), "flat"),
    ]
    assert_same_logits(nj.Architecture((7, 8, 2), nodes))


def test_vectors_are_normalised_scaled_and_padded_too():
    nodes = [
        Node("flat", ops.Flatten(), "input"),
        Node("norm", ops.Normalize((0.5, 1), (2, 3)), "flat"),
        Node("bn", ops.BatchNorm(), "norm"),
        Node("affine", ops.Affine(), "bn"),
        Node("y", ops.PadChannels(1, 2), "affine"),
    ]
    assert_same_logits(nj.Architecture((1, 1, 2), nodes))


def without_chance(spec):
    """The network with dropout at rate 0, because the two libraries draw different numbers."""
    nodes = [
        dataclasses.replace(n, op=ops.Dropout(0.0)) if isinstance(n.op, ops.Dropout) else n
        for n in spec.nodes
    ]
    return nj.Architecture(spec.input_shape, nodes)


@pytest.mark.parametrize(
    "name",
    [
        *("plain", "densenet", "padded_resnet", "inception", "separable", "dense_layers"),
        "stages",
    ],
)
def test_three_updates_are_ours(name):
    spec, updates = without_chance(ZOO[name]()), 3
    variables = random_variables(spec)
    network = torch_network.TorchNetwork(spec).train()
    torch_network.load(network, variables)
    sgd = torch_network.optimizer(network, SETTINGS)
    state = training.TrainState(variables, training.direction(SETTINGS).init(variables["params"]))
    step = jax.jit(training.update, static_argnames="settings")
    labels = np.arange(6, dtype=np.int32) % 5
    for number, rate in enumerate(training.learning_rates(SETTINGS, updates)):
        images = random_images(spec, seed=number)
        key = jax.random.key(0)
        state, loss = step(spec, state, images, labels, rate, key, settings=SETTINGS)
        theirs = torch_network.update(network, sgd, images, labels, float(rate))
        assert theirs.item() == pytest.approx(float(loss), rel=1e-4)
    expected = torch_network.TorchNetwork(spec)
    torch_network.load(expected, unbiased(spec, state.variables, variables, updates))
    ours, theirs = expected.state_dict(), network.state_dict()
    for array in ours:
        if not array.endswith("num_batches_tracked"):
            np.testing.assert_allclose(theirs[array], ours[array], rtol=1e-3, atol=1e-4)


def unbiased(spec, variables, before, updates, batch=6):
    """The variables with the running variances that PyTorch has after some updates."""
    stats = {}
    for name, arrays in variables["batch_stats"].items():
        count = batch * np.prod(spec.shapes[name][:-1])
        kept = 0.9**updates * before["batch_stats"][name]["var"]
        stats[name] = {**arrays, "var": kept + (arrays["var"] - kept) * count / (count - 1)}
    return {**variables, "batch_stats": stats}


def test_trains_on_augmented_images_and_evaluates():
    rng = np.random.default_rng(0)
    labels = (np.arange(96) % 3).astype(np.int32)
    images = (60 * labels[:, None, None, None] + rng.integers(0, 60, (96, 6, 5, 1))).astype(
        np.uint8
    )
    examples = Examples(images, labels)
    spec = nj.chain((6, 5, 1), 3, widths=(8,), normalize=ops.Normalize((90.0,), (60.0,)))
    network = torch_network.TorchNetwork(spec)
    torch_network.load(network, nj.init(spec, jax.random.key(0)))
    settings = training.TrainingSettings(batch_size=16, crop_padding=1, cutout=2, lr_start=0.2)
    assert torch_network.train(network, examples, 20, settings) > 0
    score = torch_network.evaluate(network, examples, batch_size=40)
    assert score.accuracy > 0.9
    assert score.seconds > 0


def test_reduced_precision_is_near():
    spec = ZOO["inception"]()
    losses = []
    for autocast in (None, torch.bfloat16):
        network = torch_network.TorchNetwork(spec).train()
        torch_network.load(network, nj.init(spec, jax.random.key(0)))
        sgd = torch_network.optimizer(network, SETTINGS)
        images, labels = random_images(spec), np.arange(6) % 5
        loss = torch_network.update(network, sgd, images, labels, 0.1, autocast=autocast)
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_crops_and_flips_are_windows_of_the_padded_image():
    image = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = {
        padded[0, top : top + 3, left : left + 4, 0][:, ::step].tobytes()
        for top in range(3)
        for left in range(3)
        for step in (1, -1)
    }
    settings = training.TrainingSettings(crop_padding=1)
    generator = torch.Generator().manual_seed(0)
    index = torch.zeros(500, dtype=torch.int64)
    batch = torch_network.augmented(torch.from_numpy(padded), index, settings, generator)
    assert {image.numpy().tobytes() for image in batch} == windows


def test_cutout_blackens_one_square():
    padded = torch.ones(1, 7, 6, 2, dtype=torch.uint8)
    settings = training.TrainingSettings(crop_padding=0, flip=False, cutout=3)
    generator = torch.Generator().manual_seed(0)
    index = torch.zeros(200, dtype=torch.int64)
    batch = torch_network.augmented(padded, index, settings, generator)
    black = (batch == 0).sum((1, 2, 3)).unique().tolist()
    assert black == [2 * size for size in (4, 6, 9)]
    assert padded.min() == 1


def test_augmentation_off_takes_the_batch_as_it_is():
    images = torch.arange(24, dtype=torch.uint8).view(3, 2, 2, 2)
    settings = training.TrainingSettings(crop_padding=0, flip=False)
    index = torch.tensor([2, 0])
    batch = torch_network.augmented(images, index, settings, torch.Generator())
    assert jnp.array_equal(batch.numpy(), images[[2, 0]].numpy())

"""AutoAugment's policy for CIFAR-10: each operation against Pillow's, and how they are drawn."""

import functools
import math

import jax
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from nash_jax import training
from nash_jax.training import autoaugment
from nash_jax.training.autoaugment import POLICY

GREY = (120, 130, 140)


def photo(seed, size=32):
    """An image with smooth parts, noise and a dark channel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    smooth = np.stack([rows, rows * columns, 0.4 * columns], -1)
    return np.clip(230 * smooth + rng.integers(0, 40, (size, size, 3)), 0, 255).astype(np.uint8)


def by_pillow(name, magnitude, sign, image):
    """The operation as Popien's code has it; shears and rotations by the nearest pixel."""
    picture, part = Image.fromarray(image), sign * magnitude / 9
    size, factor = picture.size, 1 + sign * 0.1 * magnitude

    def moved(*matrix):
        return picture.transform(size, Image.Transform.AFFINE, matrix, fillcolor=GREY)

    match name:
        case "shear_y":
            return moved(1, 0, 0, 0.3 * part, 1, 0)
        case "translate_x":
            return moved(1, 0, 150 / 331 * size[0] * part, 0, 1, 0)
        case "translate_y":
            return moved(1, 0, 0, 0, 1, 150 / 331 * size[1] * part)
        case "rotate":
            return picture.rotate(30 * part, fillcolor=GREY)
        case "posterize":
            return ImageOps.posterize(picture, 8 - round(4 * magnitude / 9))
        case "solarize":
            return ImageOps.solarize(picture, 256 - 256 * magnitude / 9)
        case "color" | "contrast" | "brightness" | "sharpness":
            return getattr(ImageEnhance, name.capitalize())(picture).enhance(factor)
    return getattr(ImageOps, name)(picture)


def test_every_operation_of_the_policy_is_pillow_s():
    operations = sorted({(name, size) for pair in POLICY for name, _, size in pair})
    assert len({name for name, _ in operations}) == 13
    cases = [(*operation, sign) for operation in operations for sign in (-1, 1)]
    images = np.stack([photo(0), photo(1), np.full((32, 32, 3), 7, np.uint8)])
    steps = [autoaugment.step_of(*case, 32, 32) for case in cases]
    steps = autoaugment.Step(*map(np.stack, zip(*steps)))
    each = jax.vmap(autoaugment.one_by_one, (0, None, None))
    change = jax.jit(jax.vmap(each, (None, 0, None)))
    found = np.asarray(change(images.astype(np.int32), steps, np.array(GREY)))
    for case, ours in zip(cases, found):
        theirs = np.stack([by_pillow(*case, image) for image in images]).astype(int)
        rounded = case[0] in ("autocontrast", "brightness")  # in floating point by Pillow
        assert np.abs(ours - theirs).max() <= (1 if rounded else 0), case
        assert (ours != theirs).mean() < 0.01, case


def test_sub_policies_are_drawn_alike_and_used_as_often_as_they_say():
    """Also of a population, each member of which is augmented as it would be alone."""
    images = np.repeat(photo(0)[None], 500, axis=0)
    settings = training.TrainingSettings(crop_padding=0, flip=False, auto_augment=True)
    augment = functools.partial(training.augment, settings=settings, fill=GREY)
    keys, alone = jax.random.split(jax.random.key(0)), jax.jit(augment)
    found = np.stack([alone(images, key) for key in keys])
    assert (found.shape, found.dtype) == ((2, *images.shape), np.uint8)
    together = jax.jit(jax.vmap(augment))(np.stack([images, images]), keys)
    np.testing.assert_array_equal(together, found)
    # A sub-policy changes nothing if it leaves both out, or what it does has no effect.
    idle = [
        math.prod(1 - p for name, p, size in pair if (name, size) != ("color", 0))
        for pair in POLICY
    ]
    assert abs((found == images).all(axis=(2, 3, 4)).mean() - np.mean(idle)) < 0.05
    inverted = (found == 255 - images).all(axis=(2, 3, 4)).mean()
    assert 0 < inverted < 0.02  # alone by the first sub-policy, and seldom


def test_a_policy_needs_no_program_of_its_own_for_the_update():
    with_policy = training.TrainingSettings(auto_augment=True)
    assert with_policy.without_augmentation == training.TrainingSettings().without_augmentation

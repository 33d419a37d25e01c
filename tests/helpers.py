"""What several tests are made of."""

import numpy as np
import PIL.Image


def image(number, size=(6, 6), channels=3):
    """Pixels at random, the same for the same number."""
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def write_folder(root, classes=("cat", "dog"), count=3, first=0):
    """PNG files in a folder per class; the images, class by class."""
    arrays = []
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            arrays.append(image(first + 100 * label + number))
            PIL.Image.fromarray(arrays[-1]).save(root / name / f"{number}.png")
    return np.stack(arrays)

"""What a network expects pixels to be: its first batch normalisation remembers what it saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tagmill_worker.training.runtime import frameworks

SCALINGS = {"inside": (1.0, 0.0), "-1..1": (1 / 127.5, -1.0), "0..1": (1 / 255, 0.0)}
"""Factor and offset that bring 0 to 255 to what is expected; ``inside``: the network does so."""

_CLEARLY = 2.0  # as far as the best must be before the second, in the logarithm of a variance
_IMAGES = 8


def detect_scaling(network: Any, size: int) -> str:
    """The scaling that a network was trained with; empty where nothing tells.

    A network that scales by itself has a layer for it before its first convolution. Of another
    the first batch normalisation keeps mean and variance of what the convolution before gave in
    training: of the three scalings one gives alike.

    Args:
        network: Keras', float images in.
        size: of its input.
    """
    keras, _ = frameworks()
    layers = list(_flat(network, keras))
    scales = (keras.layers.Rescaling, keras.layers.Normalization)
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Conv2D)]
    if not convolutions:
        return ""
    if any(isinstance(layer, scales) for layer in layers[: convolutions[0]]):
        return "inside"
    convolution = layers[convolutions[0]]
    if convolution.input.shape[-1] != 3:  # it is given something else than pixels
        return ""
    after = layers[convolutions[0] + 1 : convolutions[0] + 2]
    if not after or not isinstance(after[0], keras.layers.BatchNormalization):
        return ""
    wanted = np.asarray(after[0].moving_mean), np.asarray(after[0].moving_variance)
    images = pictures(size).astype(np.float32)
    apart = {
        name: _apart(np.asarray(convolution(images * factor + offset)), *wanted)
        for name, (factor, offset) in SCALINGS.items()
    }
    best, second = sorted(apart, key=lambda name: apart[name])[:2]
    return best if apart[second] - apart[best] > np.log(_CLEARLY) else ""


def _apart(
    given: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], variance: npt.NDArray[np.float32]
) -> float:
    """How unlike two distributions are, channel by channel; channels that say nothing left out."""
    flat = given.reshape(-1, given.shape[-1])
    alive = variance > 1e-3 * variance.max()
    spread = np.abs(np.log((flat.var(axis=0) + 1e-9) / (variance + 1e-9)))
    shift = np.abs(flat.mean(axis=0) - mean) / np.sqrt(variance + 1e-9)
    return float(np.median((spread + shift)[alive]))


def pictures(size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pictures of nothing whose brightness varies as that of photographs does: most in the large.

    Natural images have amplitudes that fall with the frequency (Field, 1987,
    doi:10.1364/JOSAA.4.002379).

    Args:
        size: height and width.
        seed: of what is drawn.
    """
    drawn = np.random.default_rng(seed)
    total = np.zeros((_IMAGES, size, size, 3), np.float32)
    side = 2
    while side <= size:
        for number in range(_IMAGES):
            grey = drawn.normal(0, 1, (side, side, 1)) + drawn.normal(0, 0.4, (side, side, 3))
            for channel in range(3):
                small = Image.fromarray(grey[..., channel].astype(np.float32))
                large = small.resize((size, size), Image.Resampling.BICUBIC)
                total[number, ..., channel] += np.asarray(large)
        side *= 2
    total *= 60 / total.std()
    return np.clip(total + 118, 0, 255).astype(np.uint8)


def _flat(network: Any, keras: Any) -> Any:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer, keras)
        else:
            yield layer

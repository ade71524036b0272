"""Random but lifelike weights for Keras models, and the legacy HDF5 layout of the files in the wild."""

import h5py
import keras
import numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

BatchNorm = keras.layers.BatchNormalization
WithKernel = (keras.layers.Conv2D, keras.layers.Dense)


def randomize(model, rng, images):
    """Draws all weights of a model.

    Kernels are He normal. BatchNorm statistics are those of `images` (channels last), then disturbed: means
    by a tenth of a deviation and more, variances by factors of 0.5 to 1.5. So activations keep their scale
    through the network, and a wrong epsilon, order of layers or order of a layer's weights shows.
    """
    for layer in model.layers:
        if isinstance(layer, WithKernel):
            kernel = layer.kernel.shape
            deviation = np.sqrt(2 / np.prod(kernel[:-1]))
            layer.kernel.assign(rng.normal(0, deviation, kernel).astype(np.float32))
            if layer.bias is not None:
                layer.bias.assign(rng.normal(0, 0.1, kernel[-1]).astype(np.float32))
        elif isinstance(layer, BatchNorm):
            shape = layer.moving_mean.shape
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, shape).astype(np.float32))
            layer.beta.assign(rng.normal(0, 0.2, shape).astype(np.float32))
    norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum
        mean = np.asarray(layer.moving_mean)
        variance = lifted(np.asarray(layer.moving_variance))
        mean = mean + rng.normal(0, 0.1, mean.shape) * np.sqrt(variance)
        layer.moving_mean.assign(mean.astype(np.float32))
        layer.moving_variance.assign(
            (variance * rng.uniform(0.5, 1.5, mean.shape)).astype(np.float32)
        )


def lifted(variance):
    """Variances of which none is far below the others', as no channel is nearly dead in trained weights."""
    return np.maximum(variance, 0.3 * np.median(variance))


def save_legacy(model, path, style="keras3"):
    """Writes a weights file in the legacy layout, with weights named as by one of three generations of Keras.

    `keras3` is what Keras 3 itself writes (`conv1_conv/kernel`); `tf` adds the `:0` of the files of 2017 and
    later; `2016` names a layer's weights without a folder (`res2a_branch2a_W_1:0`,
    `bn2a_branch2a_running_std_1:0`).
    """
    if style == "keras3":
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, model)
        return
    name = {"tf": lambda layer, weight: f"{layer}/{weight}:0", "2016": _name_of_2016}[style]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = {"tf": b"2.1.6", "2016": b"1.1.1"}[style]
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = layer.trainable_weights + layer.non_trainable_weights
            names = [name(layer.name, weight.name).encode() for weight in weights]
            group.attrs["weight_names"] = np.array(names, dtype="S") if names else np.zeros(0)
            for key, weight in zip(names, weights):
                group.create_dataset(key.decode(), data=np.asarray(weight))


def _name_of_2016(layer, weight):
    short = {
        "kernel": "W",
        "bias": "b",
        "gamma": "gamma",
        "beta": "beta",
        "moving_mean": "running_mean",
        "moving_variance": "running_std",
    }
    return f"{layer}_{short[weight]}_1:0"


def copy_common(source, target):
    """Copies the weights of the layers that both models have, by order; returns how many were copied."""
    ours = [layer for layer in target.layers if layer.weights]
    theirs = [layer for layer in source.layers if layer.weights]
    for mine, other in zip(ours, theirs):
        mine.set_weights(other.get_weights())
    return len(ours)

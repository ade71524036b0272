"""Weights files of `keras.applications` in all layouts of Keras, and the feature maps that they give."""

import sys

import keras
import numpy as np

from common import SIZES, Cases, nchw, relative_difference, smooth_images
from keras_weights import BatchNorm, copy_common, randomize, save_legacy
from resnet_2018 import resnet50_2018

APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}
PARAMETERS = {
    "vgg16": 14_714_688,
    "resnet50": 23_587_712,
    "inception_v3": 21_802_784,
    "inception_resnet_v2": 54_336_736,
}
# How Keras 3 itself saves which backbone, and whether that is one layer of the saved model.
KERAS_3 = {
    "vgg16": (".keras", True),
    "resnet50": (".weights.h5", True),
    "inception_v3": (".keras", False),
    "inception_resnet_v2": (".weights.h5", False),
}
# A VGG16 with the top at this size has the same layers in 150 MB instead of 550.
TOP_SIZE = {"vgg16": 64, "resnet50": 224, "inception_v3": 299}


def backbone(name):
    """Without the top, for images of any size."""
    keras.utils.clear_session()
    model = APPLICATIONS[name](weights=None, include_top=False, input_shape=(None, None, 3))
    assert model.count_params() == PARAMETERS[name], model.count_params()
    return model


def calibration(rng, size=200):
    """Images from which BatchNorm takes its statistics, channels last."""
    return smooth_images(rng, 8, size).transpose(0, 2, 3, 1)


def features(model, rng, sizes):
    """Inputs and feature maps for each size, channels first."""
    tensors = {}
    for size in sizes:
        images = smooth_images(rng, 2, size)
        tensors[f"input_{size}"] = images
        tensors[f"features_{size}"] = nchw(model(images.transpose(0, 2, 3, 1), training=False))
    return tensors


def without_top(cases):
    """The files without the top, of every backbone."""
    for seed, name in enumerate(APPLICATIONS):
        rng = np.random.default_rng(100 + seed)
        model = backbone(name)
        randomize(model, rng, calibration(rng))
        case = f"keras_{name}_notop"
        save_legacy(model, cases.file(case, ".h5"), "keras3")
        cases.add(case, name, ".h5", "keras", features(model, rng, SIZES))
        print(f"  {case}: {sensitivity(model, rng)}")
        keras_3(cases, name, model, rng)


def keras_3(cases, name, base, rng):
    """A network on the backbone in Keras 3's own layout, with the optimizer's state in `.keras`."""
    suffix, nested = KERAS_3[name]
    head = [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()]
    head += [keras.layers.Dense(8, activation="relu"), BatchNorm(), keras.layers.Dense(7)]
    x = base.input if nested else base.output
    for layer in [base, *head] if nested else head:
        x = layer(x)
    model = keras.Model(base.input, x)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    case = f"keras3_{name}"
    path = cases.file(case, suffix)
    if suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)
    cases.add(case, name, suffix, "keras", features(base, rng, [75]))


def with_top(cases):
    """The files with the classifier; the features are still those before it."""
    for seed, (name, size) in enumerate(TOP_SIZE.items()):
        rng = np.random.default_rng(200 + seed)
        keras.utils.clear_session()
        top = APPLICATIONS[name](weights=None, include_top=True, input_shape=(size, size, 3))
        randomize(top, rng, calibration(rng, size))
        case = f"keras_{name}_top"
        save_legacy(top, cases.file(case, ".h5"), "tf")
        base = backbone(name)
        copy_common(top, base)
        cases.add(case, name, ".h5", "keras", features(base, rng, [75]))


def of_2018(cases):
    """The ResNet50 of the notebook's Keras, in two styles of weight names."""
    rng = np.random.default_rng(300)
    keras.utils.clear_session()
    model = resnet50_2018()
    randomize(model, rng, calibration(rng, 200))
    for case, style, sizes in [
        ("keras2018_resnet50_notop", "tf", [200, 299]),
        ("keras2018_resnet50_notop_old_names", "2016", [200]),
    ]:
        save_legacy(model, cases.file(case, ".h5"), style)
        cases.add(case, "resnet50", ".h5", "keras", features(model, rng, sizes))
    print(f"  keras2018_resnet50_notop: {sensitivity(model, rng)}")


def sensitivity(model, rng):
    """By how much small mistakes would change the features. Checks that none would change them too little."""
    images = smooth_images(rng, 2, 75).transpose(0, 2, 3, 1)
    right = np.asarray(model(images, training=False))
    norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    found = {}
    if norms:
        epsilon = norms[0].epsilon
        wrong = 1e-5 if epsilon == 1e-3 else 1e-3
        for layer in norms:
            layer.epsilon = wrong
        found["wrong epsilon"] = relative_difference(right, model(images, training=False))
        for layer in norms:
            layer.epsilon = epsilon
    by_shapes = {}
    for layer in model.layers:
        if layer.weights:
            by_shapes.setdefault(str([w.shape for w in layer.weights]), []).append(layer)
    pairs = [layers[:2] for layers in by_shapes.values() if len(layers) > 1]
    changes = []
    for one, other in pairs:
        a, b = one.get_weights(), other.get_weights()
        one.set_weights(b), other.set_weights(a)
        changes.append(relative_difference(right, model(images, training=False)))
        one.set_weights(a), other.set_weights(b)
    found[f"two like layers swapped, least of {len(pairs)}"] = min(changes)
    assert all(change > 5e-4 for change in found.values()), found
    return ", ".join(f"{what}: {change:.1e}" for what, change in found.items())


def main(out):
    """Writes all of Keras' cases."""
    cases = Cases(out, "keras")
    without_top(cases)
    with_top(cases)
    of_2018(cases)
    cases.close()


if __name__ == "__main__":
    main(sys.argv[1])

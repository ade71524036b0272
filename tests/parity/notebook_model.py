"""The notebook's network and optimizer in Keras 3, and its head in the layout of Quartet's networks."""

import keras
import numpy as np
from keras import layers

APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}
NORM_KEYS = ("gamma", "beta", "running_mean", "running_var")


def build(backbone, size, dropout=0.5, momentum=0.99, classes=7):
    """The backbone with random weights, and the whole model over it."""
    keras.utils.clear_session()
    shape = (size, size, 3)
    base = APPLICATIONS[backbone](weights=None, include_top=False, input_shape=shape)
    x = layers.BatchNormalization(name="head_norm")(base.output)
    x = layers.GlobalAveragePooling2D(name="head_mean")(x)
    for i in (1, 2):
        x = layers.Dropout(dropout, name=f"head_dropout{i}")(x)
        x = layers.Dense(1024, activation="relu", name=f"head_dense{i}")(x)
        x = layers.BatchNormalization(name=f"head_norm{i}")(x)
    x = layers.Dropout(dropout, name="head_dropout3")(x)
    x = layers.Dense(classes, activation="softmax", name="head_softmax")(x)
    model = keras.Model(base.input, x)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    return base, model


def compile_model(model, learning_rate, decay=1e-3):
    """Adam with the notebook's decay by update, and its loss."""
    # Python's numbers would pass through float32 on their way to a float64 computation.
    number = np.dtype(keras.config.floatx()).type
    schedule = keras.optimizers.schedules.InverseTimeDecay
    rate = schedule(number(learning_rate), number(1), number(decay))
    optimizer = keras.optimizers.Adam(rate, number(0.9), number(0.999), number(1e-7))
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return rate


def head_tensors(model):
    """The head's weights by Quartet's names; dense kernels are `[in, out]`."""
    tensors = {}

    def put(name, layer, keys):
        for key, value in zip(keys, model.get_layer(layer).get_weights()):
            tensors[f"head.{name}.{key}"] = np.asarray(value)

    put("norm", "head_norm", NORM_KEYS)
    for i in (1, 2):
        put(f"hidden{i}.dense", f"head_dense{i}", ("weight", "bias"))
        put(f"hidden{i}.norm", f"head_norm{i}", NORM_KEYS)
    put("logits", "head_softmax", ("weight", "bias"))
    return tensors

"""Training steps of Keras on TensorFlow: Quartet's backbone and head, `train_on_batch` on one fixed batch."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from common import CLASSES, EPSILON, HIDDEN, LEARNING_RATE, arguments, measure

BACKBONES = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}


def network(name, size):
    """Backbone and the notebook's head."""
    base = BACKBONES[name](include_top=False, weights=None, input_shape=(size, size, 3))
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(base.output))
    for _ in range(2):
        x = layers.Dense(HIDDEN, activation="relu")(layers.Dropout(0.5)(x))
        x = layers.BatchNormalization()(x)
    x = layers.Dense(CLASSES, activation="softmax", dtype="float32")(layers.Dropout(0.5)(x))
    return keras.Model(base.input, x)


def main():
    """Times the steps."""
    options = arguments(__doc__)
    keras.utils.set_random_seed(1)
    if options.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    net = network(options.backbone, options.size)
    optimizer = keras.optimizers.Adam(learning_rate=LEARNING_RATE, epsilon=EPSILON)
    net.compile(optimizer=optimizer, loss="categorical_crossentropy")
    images = np.random.rand(options.batch, options.size, options.size, 3).astype("float32")
    labels = keras.utils.to_categorical(np.arange(options.batch) % CLASSES, CLASSES)
    step = net.test_on_batch if options.inference else net.train_on_batch
    measure(options, lambda: step(images, labels))


if __name__ == "__main__":
    main()

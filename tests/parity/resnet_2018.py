"""The ResNet50 that Keras had until 2018, by its layer names, epsilon and padding."""

import keras
from keras import layers

STAGES = {2: (64, "abc"), 3: (128, "abcd"), 4: (256, "abcdef"), 5: (512, "abc")}
PARAMETERS = 23_587_712


def _unit(x, channels, kernel, stride, name, padding="valid"):
    """Convolution with bias, then BatchNorm; `name` is what follows `res` and `bn`."""
    x = layers.Conv2D(channels, kernel, strides=stride, padding=padding, name=f"res{name}")(x)
    return layers.BatchNormalization(epsilon=1e-3, name=f"bn{name}")(x)


def _bottleneck(x, channels, stride, name, project):
    y = _unit(x, channels, 1, stride, f"{name}_branch2a")
    y = layers.Activation("relu")(y)
    y = _unit(y, channels, 3, 1, f"{name}_branch2b", padding="same")
    y = layers.Activation("relu")(y)
    y = _unit(y, 4 * channels, 1, 1, f"{name}_branch2c")
    shortcut = _unit(x, 4 * channels, 1, stride, f"{name}_branch1") if project else x
    return layers.Activation("relu")(layers.add([y, shortcut]))


def resnet50_2018():
    """Without the top, for images of any size."""
    image = keras.Input((None, None, 3))
    x = layers.ZeroPadding2D(3)(image)
    x = layers.Conv2D(64, 7, strides=2, name="conv1")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name="bn_conv1")(x)
    x = layers.Activation("relu")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, (channels, blocks) in STAGES.items():
        for block in blocks:
            first = block == "a"
            stride = 2 if first and stage > 2 else 1
            x = _bottleneck(x, channels, stride, f"{stage}{block}", project=first)
    model = keras.Model(image, x, name="resnet50_2018")
    assert model.count_params() == PARAMETERS, model.count_params()
    return model

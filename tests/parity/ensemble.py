"""The ensemble's mean, and scikit-learn's scores of it."""

import sys

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from common import save_json, save_tensors

MODELS, IMAGES, CLASSES = 4, 400, 7


def fake(rng, labels, never=None):
    """Softmax outputs of models that are right in about six of ten cases; no model predicts class `never`."""
    logits = rng.normal(0, 1.2, (MODELS, IMAGES, CLASSES))
    logits[:, np.arange(IMAGES), labels] += rng.uniform(0.8, 1.8, (MODELS, 1))
    if never is not None:
        logits[:, :, never] -= 20
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def scores(labels, probabilities, weights):
    """All that the report has; `probabilities` is `[models, images, classes]`."""
    mean = np.average(probabilities, axis=0, weights=weights)
    predicted = mean.argmax(-1)
    classes = list(range(CLASSES))
    options = {"labels": classes, "zero_division": 0}
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, **options)
    clipped = np.clip(mean[np.arange(len(labels)), labels].astype(np.float64), 1e-7, 1 - 1e-7)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "loss": float(-np.log(clipped).mean()),
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "macro_f1": float(f1_score(labels, predicted, average="macro", **options)),
        "predicted": predicted.tolist(),
    }


def main(out):
    """Writes `ensemble.json` and, by case, the tensors in `ensemble.safetensors`."""
    rng = np.random.default_rng(900)
    tensors, cases = {}, []
    for name, never, absent in [
        ("plain", None, None),
        ("never_predicted", 1, None),
        ("no_truth", None, 4),
        ("neither", 2, 2),
    ]:
        labels = rng.integers(0, CLASSES, IMAGES)
        if absent is not None:
            labels[labels == absent] = (absent + 1) % CLASSES
        probabilities = fake(rng, labels, never)
        tensors[f"{name}.probabilities"] = probabilities
        tensors[f"{name}.labels"] = labels.astype(np.int64)
        for weights in ([0.25] * 4, [0.4, 0.3, 0.2, 0.1], [0.0, 2.0, 1.0, 5.0]):
            cases.append(
                {
                    "name": name,
                    "probabilities": f"{name}.probabilities",
                    "labels": f"{name}.labels",
                    "weights": weights,
                    "ensemble": scores(labels, probabilities, weights),
                    "models": [scores(labels, one[None], [1.0]) for one in probabilities],
                }
            )
        if never is not None:
            assert cases[-1]["ensemble"]["precision"][never] == 0
        if absent is not None:
            assert cases[-1]["ensemble"]["support"][absent] == 0
    save_tensors(f"{out}/ensemble.safetensors", tensors)
    save_json(f"{out}/ensemble.json", cases)


if __name__ == "__main__":
    main(sys.argv[1])

"""Operations and their gradients as PyTorch computes them in float64.

Writes `cases.json`, a list of cases, and `cases.safetensors` with `<case>.<tensor>`: inputs, `out`,
`gradient` (that of the output) and `d_<input>` for the gradient of each input. `running_mean` and
`running_var` go in; `new_mean` and `new_var` come out.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

MOMENTUM = 0.01
EPSILON = 1.001e-5


class Cases:
    """Collects cases, whose tensors are drawn from one generator."""

    def __init__(self):
        self.rng = torch.Generator().manual_seed(7)
        self.list = []
        self.tensors = {}

    def draw(self, *shape):
        """Normal numbers that float32 holds exactly."""
        return torch.randn(*shape, generator=self.rng).double()

    def add(self, name, operation, inputs, compute, fixed=None, **options):
        """A case whose `inputs` get gradients and whose `fixed` tensors get none."""
        leaves = {key: value.clone().requires_grad_() for key, value in inputs.items()}
        out = compute(**leaves, **(fixed or {}))
        gradient = self.draw(*out.shape)
        gradients = torch.autograd.grad(out, list(leaves.values()), gradient)
        found = {**inputs, **(fixed or {}), "out": out.detach(), "gradient": gradient}
        found |= {f"d_{key}": value for key, value in zip(leaves, gradients)}
        self.keep(name, found)
        self.list.append({"name": name, "operation": operation, **options})

    def keep(self, name, tensors):
        """Adds tensors to a case."""
        for key, value in tensors.items():
            self.tensors[f"{name}.{key}"] = value.contiguous().clone()


def same(size, kernel, stride):
    """TensorFlow's padding of one axis, before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolutions(cases):
    """All kinds of convolution that the networks have, and some that they do not."""
    kinds = [
        # name, size, channels, kernel, stride, padding (a list: top, left, bottom, right), bias, dilation,
        # groups
        ("1x1", 9, (8, 6), (1, 1), 1, "valid", False, 1, 1),
        ("1x1_stride", 9, (8, 6), (1, 1), 2, "valid", True, 1, 1),
        ("3x3", 9, (5, 7), (3, 3), 1, "same", True, 1, 1),
        ("3x3_valid_stride", 9, (5, 7), (3, 3), 2, "valid", False, 1, 1),
        ("5x5_same", 8, (4, 6), (5, 5), 1, "same", False, 1, 1),
        ("7x7_stem", 17, (3, 8), (7, 7), 2, [3, 3, 3, 3], True, 1, 1),
        ("1x7", 9, (6, 4), (1, 7), 1, "same", False, 1, 1),
        ("7x1", 9, (6, 4), (7, 1), 1, "same", False, 1, 1),
        ("same_stride_even", 10, (4, 6), (3, 3), 2, "same", True, 1, 1),
        ("even_kernel_same", 9, (4, 6), (2, 4), 1, "same", False, 1, 1),
        ("explicit_uneven", 9, (4, 6), (3, 3), 2, [0, 2, 1, 1], True, 1, 1),
        ("dilated_groups", 11, (4, 6), (3, 3), 1, [2, 2, 2, 2], True, 2, 2),
    ]
    for name, size, (input_, output), kernel, stride, padding, bias, dilation, groups in kinds:
        if padding == "same":
            (top, bottom), (left, right) = (same(size, k, stride) for k in kernel)
        elif padding == "valid":
            top = left = bottom = right = 0
        else:
            top, left, bottom, right = padding

        def compute(x, weight, bias=None):
            x = functional.pad(x, (left, right, top, bottom))
            return functional.conv2d(x, weight, bias, stride, 0, dilation, groups)

        weight = (output, input_ // groups, *kernel)
        inputs = {"x": cases.draw(3, input_, size, size), "weight": cases.draw(*weight)}
        if bias:
            inputs["bias"] = cases.draw(output)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        cases.add(f"conv_{name}", "conv", inputs, compute, **options)


def normalisations(cases):
    """Batch normalisation by either statistics, with what may follow."""
    for shape in [(4, 6, 5, 3), (7, 6)]:
        for train in [True, False]:
            for relu, residual in [(False, False), (True, False), (True, True)]:
                for scale in [True, False]:
                    normalisation(cases, shape, train, relu, residual, scale)


def normalisation(cases, shape, train, relu, residual, scale):
    """One case; without `scale`, gamma gets no gradient."""
    channels = shape[1]
    name = f"bn_{len(shape)}d_{'batch' if train else 'running'}"
    name += "_relu" * relu + "_add" * residual + "_unscaled" * (not scale)
    x = cases.draw(*shape) * 2 + 0.5
    mean, variance = cases.draw(channels), cases.draw(channels) ** 2 + 0.1
    mean, variance = mean.float().double(), variance.float().double()

    def compute(x, beta, gamma, running_mean, running_var, residual=None):
        running = (running_mean.clone(), running_var.clone())
        y = functional.batch_norm(x, *running, gamma, beta, train, MOMENTUM, EPSILON)
        y = y if residual is None else y + residual
        return functional.relu(y) if relu else y

    inputs = {"x": x.float().double(), "beta": cases.draw(channels)}
    fixed = {"running_mean": mean, "running_var": variance}
    (inputs if scale else fixed)["gamma"] = cases.draw(channels)
    if residual:
        inputs["residual"] = cases.draw(*shape)
    cases.add(name, "bn", inputs, compute, fixed, train=train, relu=relu, scale=scale)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    if train:  # Keras 3 has the biased variance, PyTorch's layer the unbiased one.
        new_mean = mean + MOMENTUM * (inputs["x"].mean(axes) - mean)
        new_var = variance + MOMENTUM * (inputs["x"].var(axes, unbiased=False) - variance)
    else:
        new_mean, new_var = mean, variance
    cases.keep(name, {"new_mean": new_mean, "new_var": new_var})


def points_and_pools(cases):
    """Everything else."""
    def x():
        return {"x": cases.draw(2, 5, 9, 8)}

    cases.add("relu", "relu", x(), lambda x: functional.relu(x))
    cases.add("relu_2d", "relu", {"x": cases.draw(6, 5)}, lambda x: functional.relu(x))
    cases.add("global_avg_pool", "global_avg_pool", x(), lambda x: x.mean((2, 3)))
    two = {**x(), "branch": cases.draw(2, 5, 9, 8)}
    cases.add("add_scaled", "add_scaled", two, lambda x, branch: x + 0.17 * branch)
    cases.add("max_2x2", "max_pool", x(), lambda x: functional.max_pool2d(x, 2), kernel=2, padding=0)
    cases.add("max_3x3", "max_pool", x(), lambda x: functional.max_pool2d(x, 3, 2), kernel=3, padding=0)
    padded = {"kernel": 3, "padding": 1}
    cases.add("max_3x3_padded", "max_pool", x(), lambda x: functional.max_pool2d(x, 3, 2, 1), **padded)
    for count in [True, False]:
        def average(x):
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=count)

        cases.add(f"average_{count}", "avg_pool", x(), average, count_padding=count)


def losses(cases):
    """Cross-entropy of classes and of distributions."""
    sure = functional.one_hot(torch.tensor([3, 0, 6, 3, 1]), 7).double()
    votes = cases.draw(5, 7).abs()
    for name, parts in [("sure", sure), ("votes", (votes / votes.sum(1, keepdim=True)).float().double())]:
        def loss(x, distributions):
            return functional.cross_entropy(x, distributions).reshape(1)

        x = {"x": (cases.draw(5, 7) * 3).float().double()}
        cases.add(f"entropy_{name}", "cross_entropy", x, loss, {"distributions": parts})


def main(out):
    """Writes all cases."""
    cases = Cases()
    convolutions(cases)
    normalisations(cases)
    points_and_pools(cases)
    losses(cases)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_file(cases.tensors, str(out / "cases.safetensors"))
    (out / "cases.json").write_text(json.dumps(cases.list))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])

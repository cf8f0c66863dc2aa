"""The models of benchmarks/training.py in PyTorch, and a whole training step of each."""

import itertools

import torch
from torch import nn
from torch.nn import functional


class _Block(nn.Module):
    """Two 3x3 convolutions with batch normalization, and a shortcut without parameters."""

    def __init__(self, inputs, features):
        super().__init__()
        self.stride = 1 if inputs == features else 2
        self.first = nn.Conv2d(inputs, features, 3, self.stride, 1, bias=False)
        self.second = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in range(2))
        self.new = features - inputs

    def forward(self, x):
        y = functional.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        if self.new:
            pad = (0, 0, 0, 0, self.new // 2, self.new - self.new // 2)
            x = functional.pad(x[:, :, ::2, ::2], pad)
        return functional.relu(x + y)


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def _resnet32(shape):
    widths = [16, *([16] * 5), *([32] * 5), *([64] * 5)]
    blocks = [_Block(a, b) for a, b in itertools.pairwise(widths)]
    stem = nn.Conv2d(shape[2], 16, 3, 1, 1, bias=False)
    return nn.Sequential(stem, nn.BatchNorm2d(16), nn.ReLU(), *blocks, _Mean(), nn.Linear(64, 10))


def _lenet(shape):
    convolutions = [nn.Conv2d(shape[2], 6, 5), nn.Conv2d(6, 16, 5)]
    layers = [nn.ZeroPad2d((32 - shape[0]) // 2)]
    for convolution in convolutions:
        layers += [convolution, nn.ReLU(), nn.AvgPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def _convnet(shape):
    layers, inputs = [], shape[2]
    for features in (32, 32, 64):
        layers += [nn.Conv2d(inputs, features, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = features
    pixels = (shape[0] // 8) * (shape[1] // 8)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * pixels, 10))


def _mlp(shape):
    size = shape[0] * shape[1] * shape[2]
    hidden = [nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10))


_MODELS = {"resnet32": _resnet32, "lenet": _lenet, "convnet": _convnet, "mlp": _mlp}


def create_step(name, shape, batch_size, threads):
    """A function of no arguments that trains one step, in channels_last, and waits for it."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _MODELS[name](shape).to(device, memory_format=torch.channels_last)
    images = torch.randn(batch_size, shape[2], *shape[:2], device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,), device=device)
    settings = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    optimizer = torch.optim.SGD(model.parameters(), **settings)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step

"""Writes the PyTorch files beside it, which tests/torch_files_test.py reads without PyTorch.

Made with PyTorch 2.13.0 by `python tests/data/make_torch_files.py`; the tests know the values.
"""

import argparse
import collections
import pathlib

import torch

FOLDER = pathlib.Path(__file__).parent


def values(*shape, dtype=torch.float32):
    """-1, -.75, -.5, ... in row-major order; every dtype here holds the first 12 exactly."""
    size = torch.Size(shape).numel()
    return (torch.arange(size) * 0.25 - 1).to(dtype).reshape(shape)


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 2))
        self.scale = torch.nn.Parameter(values(2))

    def forward(self, x):
        return self.body(x) * self.scale


def state_dict():
    base = values(4, 5)
    tied = values(2, 3)
    return collections.OrderedDict(
        {
            "conv.weight": values(2, 3, 1, 2),
            "parameter": torch.nn.Parameter(values(3)),
            "transposed": base.T,
            "slice": base[1:3, 1:4],
            "column": values(40, 3)[:, 1],
            "flipped_axes": values(2, 3, 4).permute(2, 0, 1),
            "tied": tied,
            "tied_again": tied,
            "half": values(3, 4, dtype=torch.float16),
            "bfloat16": values(3, 4, dtype=torch.bfloat16),
            "double": values(2, dtype=torch.float64),
            "complex": torch.complex(values(3), -values(3)),
            "int64": torch.arange(-2, 3),
            "uint8": torch.arange(3, dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
            "expanded": torch.ones(1).expand(1000),
            "sparse": torch.eye(3).to_sparse(),
            "quantized": torch.quantize_per_tensor(values(4), 0.25, 0, torch.qint8),
        }
    )


def main():
    torch.save(state_dict(), FOLDER / "state_dict.pth")
    torch.save(state_dict(), FOLDER / "state_dict_legacy.pth", _use_new_zipfile_serialization=False)
    names = "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz uint16 uint32".split()
    new_dtypes = {name: values(2, 3).abs().to(getattr(torch, name)) for name in names}
    torch.save(new_dtypes, FOLDER / "new_dtypes.pth")

    model = Tiny()
    optimizer = torch.optim.Adam(model.parameters())
    model(values(4, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(values(*parameter.shape))
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "model": {f"module.{name}": value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "losses": [2.5, 2.25],
        "averages": [values(2), None],
    }
    torch.save(checkpoint, FOLDER / "checkpoint.pth")
    torch.save(torch.nn.Sequential(model.body, torch.nn.BatchNorm1d(2)), FOLDER / "module.pth")
    torch.jit.trace(model, values(4, 3)).save(str(FOLDER / "torchscript.pt"))


if __name__ == "__main__":
    main()

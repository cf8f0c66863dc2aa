"""Starts drawn from trained weights: `--init="experiments.nspl.starts:caffenet(layer='conv2')"`.

`results/caffenet/fit.json` is of CaffeNet's first two convolutions, by

    python -m initjax.fit WEIGHTS/caffenet_conv1_conv2.npz --out=experiments/nspl/results/caffenet

where the weights are of the one-GPU AlexNet that Caffe trained on ImageNet.
"""

import pathlib

import initjax

_FIT = pathlib.Path(__file__).parent / "results" / "caffenet" / "fit.json"


def caffenet(layer: str, law: str = "best"):
    """`initjax.from_fit` of a layer of CaffeNet: its law, at He's variance.

    Args:
      layer: "conv1" or "conv2".
      law: "best", or "empirical", the quantiles of the weights.
    """
    return initjax.from_fit(_FIT, layer, law=law)

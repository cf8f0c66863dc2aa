"""Flax models that take their initializers by name or by value."""

# ruff: noqa: E402 - without the extra, the imports below would not say what to install.

from initjax.support import extras

extras.need("train", "flax")

from initjax.models.alexnet import AlexNet as AlexNet
from initjax.models.base import ImageClassifier as ImageClassifier
from initjax.models.catalog import create_model as create_model, model_names as model_names
from initjax.models.convnet import ConvNet as ConvNet
from initjax.models.googlenet import GoogLeNet as GoogLeNet
from initjax.models.lenet import LeNet as LeNet
from initjax.models.mlp import MLP as MLP
from initjax.models.resnet_cifar import CifarResNet as CifarResNet
from initjax.models.resnet_imagenet import ResNet as ResNet
from initjax.models.vgg import VGG as VGG
from initjax.models.vit import VisionTransformer as VisionTransformer

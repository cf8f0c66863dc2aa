"""initjax: from which weights should a network start?"""

from initjax import distributions as distributions
from initjax.errors import UserError as UserError
from initjax.fans import fans as fans
from initjax.initializers import (
    constant as constant,
    glorot_normal as glorot_normal,
    glorot_uniform as glorot_uniform,
    he_normal as he_normal,
    he_uniform as he_uniform,
    kaiming_normal as kaiming_normal,
    kaiming_uniform as kaiming_uniform,
    lecun_normal as lecun_normal,
    lecun_uniform as lecun_uniform,
    normal as normal,
    nspl as nspl,
    ones as ones,
    ones_init as ones_init,
    variance_scaling as variance_scaling,
    xavier_normal as xavier_normal,
    xavier_uniform as xavier_uniform,
    zeros as zeros,
    zeros_init as zeros_init,
)
from initjax.registry import get as get, names as names

__version__ = "0.1.0"

"""Laws of weights: each can be sampled and evaluated, and has a unit scale.

A law registers itself when its file is imported: in this order laws are compared and reported.
"""

# isort: off
from initjax.distributions.base import Distribution as Distribution
from initjax.distributions.normal import Normal as Normal
from initjax.distributions.uniform import Uniform as Uniform
from initjax.distributions.laplace import Laplace as Laplace
from initjax.distributions.logistic import Logistic as Logistic
from initjax.distributions.generalized_normal import GeneralizedNormal as GeneralizedNormal
from initjax.distributions.student_t import StudentT as StudentT
from initjax.distributions.log_normal import LogNormal as LogNormal
from initjax.distributions.generalized_gamma import GeneralizedGamma as GeneralizedGamma
from initjax.distributions.normal_mixture import NormalMixture as NormalMixture
from initjax.distributions.power_law import SymmetricPowerLaw as SymmetricPowerLaw
from initjax.distributions.cutoff_power_law import CutoffPowerLaw as CutoffPowerLaw
from initjax.distributions.truncated_normal import TruncatedNormal as TruncatedNormal
from initjax.distributions.with_zeros import WithZeros as WithZeros
from initjax.distributions.empirical import Empirical as Empirical

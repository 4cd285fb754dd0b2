"""Log-densities: attention, path contraction, the network in weight space, its order parameters."""

from ..core.checks import InputWarning
from .attention import Attention
from .contraction import contract
from .network import Network, OrderParameters, Weights, draw_prior, order_parameters, path_weights
from .paths import PathInputs
from .posterior import Posterior
from .pretrained import Pretrained
from .reduction import Reduction
from .streams import reduce

__all__ = [
    "Attention",
    "InputWarning",
    "Network",
    "OrderParameters",
    "PathInputs",
    "Posterior",
    "Pretrained",
    "Reduction",
    "Weights",
    "contract",
    "draw_prior",
    "order_parameters",
    "path_weights",
    "reduce",
]

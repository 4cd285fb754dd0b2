"""Log-densities: attention, path contraction, the network in weight space, its order parameters."""

from ..core.checks import InputWarning
from .attention import Attention
from .beyond import attention_from_activations, with_mlp
from .contraction import contract
from .labels import one_hot
from .learned import LearnedAttention
from .learned_posterior import LearnedPosterior
from .network import Network, OrderParameters, Weights, draw_prior, order_parameters, path_weights
from .own import Model
from .own_posterior import ModelPosterior
from .paths import PathInputs
from .posterior import Posterior
from .pretrained import Pretrained
from .reduction import Reduction
from .streams import reduce

__all__ = [
    "Attention",
    "InputWarning",
    "LearnedAttention",
    "LearnedPosterior",
    "Model",
    "ModelPosterior",
    "Network",
    "OrderParameters",
    "PathInputs",
    "Posterior",
    "Pretrained",
    "Reduction",
    "Weights",
    "attention_from_activations",
    "contract",
    "draw_prior",
    "one_hot",
    "order_parameters",
    "path_weights",
    "reduce",
    "with_mlp",
]

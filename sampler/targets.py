"""The spaces that kernels explore, each a ``Target`` built once per network."""

from __future__ import annotations

from functools import lru_cache

from ..models import Network
from ..models.network import draw_prior, forward, summarise
from ..models.weight_space import log_density
from .kernel import Target


def order_parameter_record(U) -> dict:
    return {"U_a": U.U_a} | {f"U_{l}": u for l, u in enumerate(U.U, start=1)}


@lru_cache
def weights(network: Network) -> Target:
    """All weights; a chain starts from the prior."""

    def observe(data, test, position, key):
        U, B = summarise(position)
        record = order_parameter_record(U) | {"path_weights": B} | position
        return record if test is None else record | {"f": forward(B, test)}

    return Target(
        name="weights",
        network=network,
        data=lambda posterior, dtype: posterior.weight_data(dtype),
        initial=lambda data, key: draw_prior(network, key, data.y.dtype),
        log_density=lambda data, position: log_density(network, data, position),
        observe=observe,
    )

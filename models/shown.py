"""What a notebook shows of a network and of a posterior, as text by name (``core.cards``)."""

from __future__ import annotations

from typing import Any

_SHOWN_PATHS = 8


def network_rows(network) -> dict[str, str | None]:
    """Shape, prior and size of a ``gf.Network``."""
    return {
        "heads": _listed(network.heads),
        "widths": f"N_0 = {network.input_width}, then {_listed(network.widths)}",
        "outputs": str(network.outputs) if network.outputs > 1 else None,
        "skip connections": _listed(network.residual) if any(network.skips) else None,
        "prior variances": _listed(network.variances),
        "paths": str(network.paths),
        "weights": f"{network.weight_count:,}",
    }


def posterior_rows(posterior) -> dict[str, str | None]:
    """Data, temperature and network of a posterior; the one line of one without path inputs."""
    if not hasattr(posterior, "data"):
        return {"posterior": repr(posterior)}
    few, P, names = len(posterior.reduction.y), posterior.examples, posterior.data.path_names
    paths = ", ".join(names[:_SHOWN_PATHS]) + (", .." if len(names) > _SHOWN_PATHS else "")
    about = {
        "examples": f"P = {P}" + (f" as {few} pseudo-examples" if few < P else ""),
        "labels": f"classes {', '.join(map(str, posterior.classes))}" if posterior.classes else "real values",
        "temperature": f"{posterior.temperature:g}",
    }
    return about | network_rows(posterior.network) | {"paths": f"{len(names)}: {paths}"}


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)

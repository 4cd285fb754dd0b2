"""Attention layers as files and other libraries store them.

A file, .npz or .safetensors, holds for every layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l [H, G, N_0], of any
real dtype, among other arrays. Libraries keep all heads of a projection in one matrix, which ``split_heads`` cuts.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from ..core import checks

LAYOUT = "per layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l [H, G, N_0]"


def read(argument: str, path: str | Path, layout: str = LAYOUT) -> dict[str, np.ndarray]:
    """All arrays of an .npz or .safetensors file by name.

    Args:
        argument: what the user called the file, for messages.
        path: file; a name that ends in .safetensors is read as such, any other as .npz.
        layout: what it should hold, in words.

    Raises:
        ValueError: no such file, or it cannot be read.
    """
    path = Path(path)
    kind = "safetensors" if path.suffix == ".safetensors" else "npz"
    if not path.is_file():
        raise checks.InputError(f"{argument}={str(path)!r} does not exist: give an .npz or .safetensors with {layout}")
    try:
        if kind == "safetensors":
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a mapping
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        # NumPy takes anything but an archive for a pickle, and tells the user how to load it unsafely
        other = kind == "npz" and isinstance(error, ValueError) and not zipfile.is_zipfile(path)
        reason = "not a zip archive" if other else error
        raise checks.InputError(
            f"{argument}={str(path)!r} is not an .{kind} file that can be read ({reason}): it must hold {layout}"
        ) from None


def layers(argument: str, arrays: dict[str, np.ndarray], layout: str = LAYOUT) -> list:
    """The layers W_l or (Q_l, K_l) among named arrays, bottom first; other names are left alone.

    Raises:
        ValueError: no layer, or layer l is missing below one that is there.
    """
    left = {name for name in arrays if name[:2] in ("W_", "Q_", "K_")}
    found: list = []
    while left:
        l = len(found) + 1
        if f"W_{l}" in left:
            found.append(arrays[f"W_{l}"])
            left -= {f"W_{l}"}
        elif {f"Q_{l}", f"K_{l}"} <= left:
            found.append((arrays[f"Q_{l}"], arrays[f"K_{l}"]))
            left -= {f"Q_{l}", f"K_{l}"}
        else:
            raise checks.InputError(
                f"{argument} has {', '.join(sorted(left))} but no W_{l}, nor Q_{l} and K_{l}: it must hold {layout}"
            )
    if not found:
        held = checks.brief(", ".join(arrays)) if arrays else "nothing"
        raise checks.InputError(f"{argument} holds {held} and no attention layer: it must hold {layout}")
    return found


def split_heads(weight, heads: int | None = None) -> Float[np.ndarray, "H G N_0"]:
    """Query or key weights [H, G, N_0] from the projection of all heads at once.

    Args:
        weight: [H G, N_0], heads one after another, as ``torch.nn.Linear`` keeps it (a Flax or Keras ``Dense`` kernel
            is the transpose); or [N_0, H, G], the kernel of Flax's ``MultiHeadAttention``.
        heads: H; needed for a matrix, and checked against the kernel's own otherwise.

    Returns:
        Weights [H, G, N_0]. Scores are divided by sqrt(G), as in those libraries; biases have no place in this model.

    Raises:
        ValueError: another rank, or rows that H does not divide.
    """
    weight = np.asarray(weight)
    if weight.ndim == 3:
        if heads is not None and heads != weight.shape[1]:
            raise checks.InputError(
                f"weight has shape {weight.shape}, {weight.shape[1]} heads: give heads=None or that"
            )
        return checks.array("weight", weight.transpose(1, 2, 0), "H, G, N_0")
    weight = checks.array("weight", weight, "H G, N_0")
    if heads is None:
        raise checks.InputError(f"heads=None, and weight {weight.shape} does not say: give the number of heads")
    if len(weight) % checks.count("heads", heads):
        raise checks.InputError(
            f"heads={heads} does not divide the {len(weight)} rows of weight {weight.shape}: give [H G, N_0], one row "
            "per output of the projection"
        )
    return weight.reshape(int(heads), -1, weight.shape[1])


def split_in_projection(weight, heads: int) -> tuple[Float[np.ndarray, "H G N_0"], Float[np.ndarray, "H G N_0"]]:
    """Query and key weights from the one matrix of ``torch.nn.MultiheadAttention``.

    Args:
        weight: its ``in_proj_weight`` [3 N_0, N_0]: rows of queries, keys, values.
        heads: H.

    Returns:
        (Q, K), each [H, G, N_0].

    Raises:
        ValueError: rows that are not three times the columns, or that the heads do not divide.
    """
    weight = checks.array("weight", weight, "3 N_0, N_0")
    if len(weight) != 3 * weight.shape[1]:
        raise checks.InputError(
            f"weight has shape {weight.shape}: give in_proj_weight [3 N_0, N_0], rows of queries, keys, values; "
            "for separate projections use split_heads"
        )
    query, key, _ = np.split(weight, 3)
    return split_heads(query, heads), split_heads(key, heads)

"""Attention layers as files and other libraries store them.

A file, .npz or .safetensors, holds for every layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l [H, G, N_0], of any
real dtype, among other arrays. Libraries keep all heads of a projection in one matrix, which ``split_heads`` cuts.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from ..core import checks, sealing

# What NumPy and zipfile raise at archives that are damaged, encrypted, or compressed in unknown ways.
_UNREADABLE = (
    ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, MemoryError,
    OverflowError, SyntaxError,
)  # fmt: skip
_SEALED = ("gibbsformer network 2",)  # formats of files that have a checksum
LAYOUT = "per layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l [H, G, N_0]"


def read(argument: str, path: str | Path, layout: str = LAYOUT) -> dict[str, np.ndarray]:
    """All arrays of an .npz or .safetensors file by name.

    Args:
        argument: what the user called the file, for messages.
        path: file; a name that ends in .safetensors is read as such, any other as .npz.
        layout: what it should hold, in words.

    Raises:
        ValueError: no such file, it cannot be read, its checksum says that it is damaged, or its arrays need more
            memory than there is.
    """
    path = Path(path)
    kind = "safetensors" if path.suffix == ".safetensors" else "npz"
    if not path.is_file():
        raise checks.InputError(f"{argument}={str(path)!r} does not exist: give an .npz or .safetensors with {layout}")
    try:
        _check_size(f"{argument}={str(path)!r}", path, kind)
        if kind == "safetensors":
            _check_seal(f"{argument}={str(path)!r}", path)
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a mapping
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except checks.InputError:
        raise
    except (*_UNREADABLE, OSError, SafetensorError) as error:
        # NumPy takes anything but an archive for a pickle, and tells the user how to load it unsafely
        other = kind == "npz" and not isinstance(error, OSError) and not zipfile.is_zipfile(path)
        reason = "not a zip archive" if other else error
        raise checks.InputError(
            f"{argument}={str(path)!r} is not an .{kind} file that can be read ({reason}): it must hold {layout}"
        ) from None


def _check_seal(shown: str, path: Path) -> None:
    intact = sealing.intact(path)
    if intact is None:
        with safe_open(path, framework="numpy") as file:
            intact = (file.metadata() or {}).get("format") not in _SEALED
    if not intact:
        raise checks.InputError(f"{shown} is damaged (checksum mismatch): use a copy of it, or make it again")


def _check_size(shown: str, path: Path, kind: str) -> None:
    """Refuse arrays that do not fit in memory before any is made: an archive of kilobytes can hold gigabytes."""
    if kind == "safetensors":
        needed = path.stat().st_size
    else:
        with zipfile.ZipFile(path) as archive:
            needed = sum(_array_bytes(archive, entry) for entry in archive.infolist())
    checks.memory(shown, needed, "a smaller file")


def _array_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Bytes of an array of an .npz file, by its header, which must agree with what the archive says of it."""
    with archive.open(entry) as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return entry.file_size  # not an array, which NumPy hands over as it is
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        count = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and file.tell() + count != entry.file_size:
            raise ValueError(f"{entry.filename} has {entry.file_size} bytes and shape {shape}")
    return count


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

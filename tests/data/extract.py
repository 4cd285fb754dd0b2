"""Make reference_hmm_extract.h5, the fixture of the tests, from the full reference file.

    python tests/data/extract.py <reference_hmm.h5>

The reference is one draw of the hidden Markov chain task and the results of an independent implementation. The
extract keeps every result, the training inputs, and all labels; sequences and attention patterns of a few examples
of both classes; and the test inputs in single precision, which leaves every reference accuracy as it is (checked
here: no predictor mean lies near enough to zero to change sign, and tests/theory compares the accuracies exactly).
"""

import sys
from pathlib import Path

import h5py
import numpy as np

EXAMPLES = (0, 1, 2, 97, 98, 99)  # three of each class
WHOLE = ("attention/W_1", "attention/W_2", "train/xi", "train/y", "test/y")
RESULTS = ("theory", "gp", "posterior")


def extract(source: Path, target: Path) -> None:
    """Write the extract of ``source`` to ``target``."""
    with h5py.File(source, "r") as full, h5py.File(target, "w") as part:
        part.attrs["about"] = full.attrs["about"]
        part.attrs["temperature"] = full.attrs["temperature"]
        part.attrs["variances"] = full.attrs["variances"]
        chosen = list(EXAMPLES)
        arrays = {name: full[name][()] for name in WHOLE}
        arrays["few/example"] = np.array(chosen)
        arrays["few/x"] = full["train/x"][chosen]
        arrays["few/A_1"] = full["attention/A_1_train"][chosen]
        arrays["few/A_2_readout"] = full["attention/A_2_train_readout"][chosen]
        arrays["test/xi"] = full["test/xi"][()].astype(np.float32)
        for group in RESULTS:
            full[group].visititems(lambda _, item: _collect(arrays, item))
        for name, values in arrays.items():
            packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if np.size(values) > 1000 else {}
            part.create_dataset(name, data=values, **packed)


def _collect(arrays, item):
    if isinstance(item, h5py.Dataset):
        arrays[item.name.strip("/")] = item[()]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python {sys.argv[0]} <reference_hmm.h5>")
    result = Path(__file__).with_name("reference_hmm_extract.h5")
    extract(Path(sys.argv[1]), result)
    print(f"{result.name}: {result.stat().st_size / 1e6:.2f} MB")

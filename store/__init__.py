"""HDF5 sample files that ArviZ and xarray open unconverted, and that survive whatever stops their writer."""

from .copies import export, merge
from .layout import Column
from .reading import Contents, LazyArray, read
from .sample_file import SampleFile
from .verifying import Verified, verify

__all__ = [
    "Column",
    "Contents",
    "LazyArray",
    "SampleFile",
    "Verified",
    "export",
    "merge",
    "read",
    "verify",
]

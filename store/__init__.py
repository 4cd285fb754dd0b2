"""HDF5 sample files that ArviZ and xarray open unconverted."""

from .sample_file import Column, Contents, LazyArray, SampleFile, checked_path, read

__all__ = ["Column", "Contents", "LazyArray", "SampleFile", "checked_path", "read"]

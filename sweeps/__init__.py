"""Sweeps: plans over widths, temperatures, kernels, tasks, seeds and paths, on one machine or a cluster."""

from .clusters import SchedulerLost, job_cluster, local_cluster
from .curves import learning_curve
from .dataset import open_sweep
from .folder import failures, stored_plan
from .plots import heat_map, lines
from .sweep import Sweep, sweep

__all__ = [
    "SchedulerLost",
    "Sweep",
    "failures",
    "heat_map",
    "job_cluster",
    "learning_curve",
    "lines",
    "local_cluster",
    "open_sweep",
    "stored_plan",
    "sweep",
]

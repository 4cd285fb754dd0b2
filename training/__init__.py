"""Training of attention: an attention-only network learns one-shot episodes, and leaves its query and key weights."""

from .config import CONFIGS, PAPER, SMALL, Config
from .network import outputs
from .train import Trained, load, train

__all__ = ["CONFIGS", "PAPER", "SMALL", "Config", "Trained", "load", "outputs", "train"]

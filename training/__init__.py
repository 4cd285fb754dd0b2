"""Training of attention: an attention-only network learns one-shot episodes, and leaves its query and key weights."""

from .attention_only import outputs
from .config import CONFIGS, PAPER, SMALL, Config
from .train import Trained, load, train

__all__ = ["CONFIGS", "PAPER", "SMALL", "Config", "Trained", "load", "outputs", "train"]

"""What a training run is: sizes of the network, optimiser, and how its episodes are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ..core import checks
from ..models import Network
from ..models.residual import strengths
from ..tasks.one_shot import PATCH

READOUT = "mean"


@dataclass(frozen=True)
class Config:
    """One training run, all but its length.

    Args:
        heads: (H_1, .., H_L).
        key_width: G, rows of Q and K per head.
        width: N = N_1 = .. = N_{L+1}.
        channels: equal channels per pixel, so N_0 = 64 channels.
        scale: STANDARD DEVIATION of entries of Q = K at the start, times sqrt(N_0).
        batch: fresh episodes per step.
        steps: how many, unless asked otherwise.
        learning_rate: of Adam at first.
        decay: steps after which the learning rate begins to fall, as 1 / sqrt(1 + step / decay), so that no last step
            need be known; 0 keeps it.
        averaging: fraction of the steps so far, the last ones, over which weights are averaged; the average is what one
            uses. 0 takes the weights as they are.
        turned: fraction of the episodes of a step in which quarter turns of the characters count as three further
            characters each; the others show characters upright.
        distortion: STANDARD DEVIATION of the random log-stretch of each drawing along both axes; its shift has 10
            pixels times that.
        residual: strength of the skip connection of each layer, or True for 1 in all; () for none, as published.
        lead_in: steps over which the query passes from the very drawing that was shown, distorted again, to another one
            of its character. Without it Adam finds nothing to follow for thousands of steps.

    Raises:
        ValueError: a value out of range.
    """

    heads: tuple[int, ...] = (4, 4)
    key_width: int = 32
    width: int = 128
    channels: int = 1
    scale: float = 1.0
    batch: int = 64
    steps: int = 45_000
    learning_rate: float = 3e-3
    decay: int = 1000
    averaging: float = 0.1
    turned: float = 0.5
    distortion: float = 0.03
    lead_in: int = 1500
    residual: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "heads", checks.counts("heads", self.heads))
        for name in ("key_width", "width", "channels", "batch", "steps"):
            object.__setattr__(self, name, checks.count(name, getattr(self, name)))
        for name in ("decay", "lead_in"):
            object.__setattr__(self, name, checks.count(name, getattr(self, name), least=0))
        for name in ("scale", "learning_rate"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))
        for name in ("averaging", "distortion", "turned"):
            value = getattr(self, name)
            object.__setattr__(self, name, float(value) if value == 0 else checks.positive(name, value))
        found = strengths(self.residual, len(self.heads))
        object.__setattr__(self, "residual", found if any(found) else ())
        if self.turned > 1:
            raise checks.InputError(f"turned={self.turned} is a fraction of the episodes: give 0 to 1")
        if self.averaging >= 1:
            raise checks.InputError(f"averaging={self.averaging} must be below 1: it is a fraction of the steps")

    @property
    def network(self) -> Network:
        """Shapes of value weights and readout."""
        widths = (self.width,) * (len(self.heads) + 1)
        return Network(self.channels * PATCH**2, self.heads, widths, residual=self.residual)


SMALL = Config()
PAPER = Config(
    key_width=128, width=512, channels=3, batch=128, steps=100_000, learning_rate=3e-4, decay=0, averaging=0.0,
    turned=0.0, distortion=0.0, lead_in=0,
)  # fmt: skip
CONFIGS = {"small": SMALL, "paper": PAPER}

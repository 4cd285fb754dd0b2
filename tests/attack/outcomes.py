"""What came of attacks, and the table of that."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
# from harmless to worst; of a trial that tries several things, the worst counts
EQUAL, REFUSED = "equal", "refused"  # equal bit for bit to what it must be; refused in one line
WRONG, TRACEBACK, HANG, CRASH, OUTSIDE = FAULTS = ("wrong", "traceback", "hang", "crash", "outside")
OUTCOMES = (EQUAL, REFUSED, *FAULTS)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one trial ended, and what to look at if that is a fault."""

    kind: str
    said: str = ""


def worst(outcomes: list[Outcome]) -> Outcome:
    """The outcome of a trial that tried several things."""
    return max(outcomes, key=lambda outcome: OUTCOMES.index(outcome.kind))


@dataclasses.dataclass(frozen=True)
class Attack:
    """A kind of attack: one trial is one damage, kill, link, ..

    Attributes:
        name: of the kind.
        run: (place, number of trials) -> outcomes as they come.
        share: of the number of trials asked for, as some take much longer.
        may_refuse: whether one line is a right answer, or work must be done or be there all the same.
    """

    name: str
    run: Callable[["Place", int], Iterator[Outcome]]
    share: float = 1.0
    may_refuse: bool = True


class Place:
    """Where an attack takes place: an empty folder, a generator of random numbers, and victims to be left alone."""

    def __init__(self, folder: Path, seed: int, name: str):
        self.folder = folder
        folder.mkdir(parents=True)
        self.rng = np.random.default_rng([seed, *name.encode()])

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        path = self.folder / name
        path.mkdir()
        return path


def tally(attack: Attack, outcomes: Iterator[Outcome]) -> tuple[Counter, list[Outcome]]:
    """Number of outcomes of each kind, and the faults."""
    counts, faults = Counter(), []
    for outcome in outcomes:
        if outcome.kind == REFUSED and not attack.may_refuse:
            outcome = Outcome(WRONG, f"refused: {outcome.said}")
        counts[outcome.kind] += 1
        if outcome.kind in FAULTS:
            faults.append(outcome)
    return counts, faults


def render(rows: Mapping[str, Counter], seconds: Mapping[str, float]) -> str:
    """The table."""
    heads = ("trials", *OUTCOMES, "seconds")
    width = max(map(len, rows), default=0) + 2
    lines = ["".join(["attack".ljust(width), *(head.rjust(10) for head in heads)])]
    for name, counts in rows.items():
        numbers = [sum(counts.values()), *(counts[kind] for kind in OUTCOMES), round(seconds[name])]
        lines.append("".join([name.ljust(width), *(str(number).rjust(10) for number in numbers)]))
    return "\n".join(lines)

"""A process that opens, reads, verifies and continues attacked files, one request after the other.

Requests and answers are lines of JSON: ``["open", path, ..]``, and ``[outcome, said]``, where what was said is, of
files that were accepted, a digest of what they gave. The process has limits, and ``Worker`` starts another where it
crashes or hangs.
"""

import contextlib
import io
import json
import os
import selectors
import shutil
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

from .outcomes import CRASH, EQUAL, HANG, REFUSED, ROOT, TRACEBACK, Outcome
from .problem import digest
from .processes import end, kill, spawn


def _opened(path: str) -> str:
    """Settings, names, labels, data and draws that ``gf.open`` gives."""
    import numpy as np

    import gibbsformer as gf

    run = gf.open(path)
    arrays = {**run.variables, **run.stats, "y": run.posterior.y, "xi": run.posterior.data.xi}
    arrays |= {"xi_test": run.test[0].xi, "y_test": run.test[1]} if run.test else {}
    parts = [each for name in sorted(arrays) for each in (name, np.asarray(arrays[name]))]
    names = run.posterior.data.path_names
    return digest(*parts, names, json.dumps(run.settings, sort_keys=True), run.posterior.temperature)


def _verified(path: str) -> str:
    """Numbers of ``gibbsformer inspect --verify``."""
    from gibbsformer import store

    return digest(*store.verify(path)[:2])


def _resumed(path: str, draws: int) -> str:
    """The same after ``gf.resume`` of a copy."""
    copy = f"{path}.resumed.h5"
    for suffix in ("", ".journal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(path + suffix, copy + suffix)
    return _finished(copy, draws)


def _finished(path: str, draws: int) -> str:
    """The same after ``gf.resume``."""
    import gibbsformer as gf

    gf.resume(path, draws=draws, progress=False)
    return _opened(path)


def _another(path: str, out: str) -> str:
    """Draws of the same problem with another key."""
    import jax

    import gibbsformer as gf

    run = gf.open(path)
    options = {
        "chains": run.chains,
        "warmup": run.settings["warmup"],
        "draws": run.draws,
        "about": run.settings["about"],
    }
    gf.sample(run.posterior, "gibbs", key=jax.random.key(99), store=out, test=run.test, progress=False, **options)
    return _opened(out)


def _exported(path: str) -> str:
    """Bytes of draws of ``export``."""
    from gibbsformer import store

    from .problem import draws

    store.export(path, f"{path}.nc", overwrite=True)
    found = draws(Path(f"{path}.nc"))
    return digest(*(each for name in sorted(found) for each in (name, found[name])))


def _sweep_opened(folder: str) -> str:
    """Values of ``gf.open_sweep``, times aside."""
    import numpy as np

    import gibbsformer as gf

    data = gf.open_sweep(folder)
    named = sorted(name for name in data if not str(name).startswith("seconds"))
    return digest(*(each for name in named for each in (name, np.asarray(data[name]))))


def _sweep_repaired(folder: str, plan: str) -> str:
    """The same after the sweep was run again."""
    import gibbsformer as gf

    gf.sweep(plan, folder, progress=False)
    return _sweep_opened(folder)


def _network(path: str) -> str:
    """Weights of a trained network, and what its file says of them."""
    import numpy as np

    import gibbsformer as gf

    trained = gf.training.load(path)
    weights = [each for name in sorted(trained.weights) for each in (name, np.asarray(trained.weights[name]))]
    said = (trained.step, trained.accuracy, trained.history, trained.settings)
    return digest(*weights, json.dumps(said, sort_keys=True, default=str))


def _layers(path: str) -> str:
    """Attention of a file of arrays or of a network."""
    import numpy as np

    import gibbsformer as gf

    return digest(*(np.asarray(each) for layer in gf.Attention.load(path).layers for each in np.atleast_1d(layer)))


def _task(path: str) -> str:
    """A task of a user's own arrays."""
    import gibbsformer as gf

    task = gf.tasks.load(path)
    return digest(task.train.x, task.train.y)


USES = {
    "open": _opened,
    "verify": _verified,
    "resume": _resumed,
    "finish": _finished,
    "another": _another,
    "export": _exported,
    "open sweep": _sweep_opened,
    "sweep": _sweep_repaired,
    "network": _network,
    "layers": _layers,
    "task": _task,
}


def answer(request: list) -> Outcome:
    """What comes of a request; of a command line's words, what it says."""
    from gibbsformer.core import checks

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Outcome(EQUAL, USES[request[0]](*request[1:]))
    except checks.InputError as error:
        return Outcome(REFUSED if str(error).isprintable() else TRACEBACK, str(error))
    except BaseException as error:  # an InputError is all that may come of a file
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(TRACEBACK, f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}"[:500])


class Worker:
    """Requests to a process that may crash or hang; a context manager."""

    def __init__(self, seconds: float = 120.0):
        self._seconds, self._process = seconds, None

    def ask(self, *request) -> Outcome:
        """What comes of a request."""
        if self._process is None:
            self._process = spawn("tests.attack.worker", stdin=subprocess.PIPE)
        process = self._process
        process.stdin.write(json.dumps([str(each) if isinstance(each, Path) else each for each in request]) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(self._seconds)
        line = process.stdout.readline() if ready else None
        if line:
            return Outcome(*json.loads(line))
        self._process = None
        if line is None:
            kill(process)
            process.communicate()
            return Outcome(HANG, f"{request[0]}: more than {self._seconds:g} s")
        return Outcome(CRASH, f"{request[0]}: {end(process).said}")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        if self._process is not None:
            kill(self._process)
            self._process.communicate()


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else is said there
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    for line in sys.stdin:
        outcome = answer(json.loads(line))
        print(json.dumps([outcome.kind, outcome.said]), file=answers, flush=True)


if __name__ == "__main__":
    assert Path.cwd() == ROOT
    main()

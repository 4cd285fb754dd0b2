"""Attack sample files, sweeps, networks and disks, and count what comes of it.

python -m tests.attack --trials 20 --seed 1
python -m tests.attack --only "flip: journal" --trials 500 --keep /tmp/attacked

Exit code 0 if nothing was silently wrong or lost, raised a traceback, hung, crashed or changed other files.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import disks, flips, kills, strangers
from .outcomes import FAULTS, Place, render, tally
from .processes import prepare

ATTACKS = {attack.name: attack for attack in (*kills.ATTACKS, *flips.ATTACKS, *strangers.ATTACKS, *disks.ATTACKS)}
_SHOWN = 10  # faults of a kind that are printed


def main(arguments=None) -> int:
    """Run the attacks that were asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="of each kind; slow kinds take a share (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--only", action="append", metavar="NAME", help="kinds whose names begin so; may be repeated")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty directory to leave the attacked files in")
    options = parser.parse_args(arguments)
    picked = [a for n, a in ATTACKS.items() if not options.only or any(n.startswith(each) for each in options.only)]
    if not picked or options.trials < 1:
        parser.error(f"choose among {', '.join(ATTACKS)}, and 1 trial or more")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="attack-"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder.absolute() / "programs"))
    prepare()
    rows, seconds = {}, {}
    try:
        for attack in picked:
            began = time.monotonic()
            place = Place(folder / attack.name.replace(": ", " ").replace(" ", "_"), options.seed, attack.name)
            rows[attack.name], faults = tally(attack, attack.run(place, max(1, round(attack.share * options.trials))))
            seconds[attack.name] = time.monotonic() - began
            print(f"{attack.name}: {dict(rows[attack.name])}", file=sys.stderr, flush=True)
            for fault in faults[:_SHOWN]:
                print(f"  {fault.kind}: {fault.said}", file=sys.stderr, flush=True)
    finally:
        print(render(rows, seconds), flush=True)
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return int(any(counts[kind] for counts in rows.values() for kind in FAULTS))


if __name__ == "__main__":
    sys.exit(main())

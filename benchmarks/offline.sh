#!/usr/bin/env bash
# Install gibbsformer on a machine without network and run benchmark suites there, from the directory that
# `make offline` made:
#
#     bash offline.sh [--minutes M] [--quick] [SUITE ..]
#
# Packages that the machine's own Python has, JAX with CUDA among them, are used as they are. PYTHON names that Python,
# ENVIRONMENT the directory of the new environment, OUT that of the records.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
environment=${ENVIRONMENT:-$here/environment}

if ! [ -x "$environment/bin/gibbsformer" ]; then
    "$python" -m venv --without-pip "$environment"
    "$python" - "$environment" <<'END'
import pathlib, sys

inside = next(pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages"))
outside = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
(inside / "machine.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outside))
END
    "$python" -m pip --python "$environment/bin/python" install --quiet --disable-pip-version-check \
        --no-index --find-links "$here/wheels" gibbsformer
fi
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$environment/programs}  # for all suites
exec "$environment/bin/gibbsformer" bench --device gpu --out "${OUT:-records}" "$@"

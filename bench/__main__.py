"""Run all benchmarks, or the named ones: ``python -m bench [process] [classifier] [cluster]``."""

import os
import subprocess
import sys
from pathlib import Path

from bench import process

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = (sys.executable, str(ROOT / "tests/cluster/launch.py"), "--nodes", "2", "--mail", "--")


def cluster() -> None:
    """Measure inside the tests' cluster: a process of its own, as the cluster lives and dies with one."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/cluster", ROOT / "tests/support"))),
    }
    subprocess.run((*LAUNCH, sys.executable, "-m", "bench.cluster"), cwd=ROOT, env=environment, check=True)


BENCHMARKS = {"process": process.main, "cluster": cluster}


def main(names: list[str]) -> int:
    """Run what was named, everything by default; 3 for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {' '.join(unknown)}; there are: {' '.join(BENCHMARKS)}", file=sys.stderr)
        return 3
    for name in names or list(BENCHMARKS):
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run all benchmarks, or the named ones: ``python -m bench [process] [link] …``."""

import os
import subprocess
import sys
from pathlib import Path

from bench import classifier, discovery, hosts, link, process
from bench.measure import BoundPassedError

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = (sys.executable, str(ROOT / "tests/cluster/launch.py"), "--nodes", "2", "--mail", "--")


def cluster() -> None:
    """Measure inside the tests' cluster: a process of its own, as the cluster lives and dies with one."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/cluster", ROOT / "tests/support"))),
    }
    command = (*LAUNCH, sys.executable, "-m", "bench.cluster")
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise BoundPassedError("see the cluster's figures above")


BENCHMARKS = {
    "process": process.main,
    "link": link.main,
    "classifier": classifier.main,
    "discovery": discovery.main,
    "hosts": hosts.main,
    "cluster": cluster,
}


def main(names: list[str]) -> int:
    """Run what was named, everything by default; 1 over a bound, 3 for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {' '.join(unknown)}; there are: {' '.join(BENCHMARKS)}", file=sys.stderr)
        return 3
    over = 0
    for name in names or list(BENCHMARKS):
        try:
            BENCHMARKS[name]()
        except BoundPassedError as error:
            print(f"OVER ITS BOUND: {error}")
            over = 1
    return over


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

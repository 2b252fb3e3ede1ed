"""Run fuzz targets for a given time each; exit 1 where one of them finds something, with the smallest example."""

import argparse
import math
import sys
import time

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from fuzz.targets import ROOT, TARGETS, Target

BATCH = 250  # what is left of one when the time is over is drawn for nothing


def run(name: str, target: Target, seconds: float) -> int:
    """Draw until the time is over; return how many examples were tried. What does not hold is raised, shrunk.

    The time runs from the first example on: to prepare the first one can take Hypothesis a second on a busy machine.
    """
    deadline, tried, found = math.inf, 0, False

    def one(drawn: object) -> None:
        nonlocal deadline, tried, found
        if not tried:
            deadline = time.monotonic() + seconds
        if not found and time.monotonic() >= deadline:
            return
        tried += 1
        try:
            target.check(drawn)
        except Exception:
            found = True  # from here on it is made smaller, however long that takes
            raise

    batch = settings(
        max_examples=BATCH,
        deadline=None,
        database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "fuzz" / name),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
        print_blob=False,
    )
    while time.monotonic() < deadline:
        batch(given(target.draw)(one))()
    return tried


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default 60)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)} (default all)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    found = 0
    for name in arguments.targets or TARGETS:
        try:
            tried = run(name, TARGETS[name](), arguments.seconds)
            print(f"{name}: {tried} examples in {arguments.seconds:g} s, nothing found", flush=True)
        except Exception as problem:  # noqa: BLE001 - whatever a target raises is a finding
            found += 1
            notes = "\n".join(getattr(problem, "__notes__", []))
            print(f"{name}: FOUND {type(problem).__name__}: {problem}\n{notes}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

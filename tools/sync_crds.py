"""Copy the CRD, whose source of truth is crds/smtpprobes.yaml, into the chart.

``python tools/sync_crds.py`` writes the copy, ``python tools/sync_crds.py --check`` only says whether it is current.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crds" / "smtpprobes.yaml"
COPY = ROOT / "charts" / "smtpprobe-operator" / "files" / "crds" / "smtpprobes.yaml"


def main(arguments: list[str]) -> int:
    """Return 0 where the copy is current in the end, 1 where it is not, 2 for a wrong call."""
    if arguments not in ([], ["--check"]):
        print("usage: sync_crds.py [--check]", file=sys.stderr)
        return 2
    wanted = SOURCE.read_bytes()
    if COPY.exists() and COPY.read_bytes() == wanted:
        return 0
    if arguments:
        print(f"{COPY.relative_to(ROOT)} is not {SOURCE.relative_to(ROOT)}: run python tools/sync_crds.py")
        return 1
    COPY.parent.mkdir(parents=True, exist_ok=True)
    COPY.write_bytes(wanted)
    print(f"wrote {COPY.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

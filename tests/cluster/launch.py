"""Run a command inside a test cluster that lives and dies with it.

python3 tests/cluster/launch.py [--nodes 0|2 | --no-kube] [--mail] [--refusals] [--clients] [--prometheus] -- COMMAND [ARG …]

Everything (API server, nodes, mail servers, COMMAND) runs in namespaces of this one launch and is gone when it ends, by
any signal. COMMAND gets KUBECONFIG, a PATH with kubectl and helm, and SMTPPROBE_TEST_CLUSTER (see cluster_facts.py).
Its exit code is passed through; 70 means that the cluster did not come up.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import build
import cache
import cgroups

PREFIX = "smtpprobe-cluster-"
FAILED = 70


def arguments() -> argparse.Namespace:
    """Options, and the command after `--`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, choices=(0, 2), default=2, help="0: etcd, API server and controllers only")
    parser.add_argument("--no-kube", action="store_true", help="no Kubernetes at all")
    parser.add_argument("--no-images", action="store_true", help="do not build or import the project's images")
    parser.add_argument("--mail", action="store_true", help="Postfix with Dovecot, Exim, OpenSMTPD, an odd server")
    parser.add_argument("--refusals", action="store_true", help="the servers of tests/smtp/refusals.toml")
    parser.add_argument("--clients", action="store_true", help="mail clients: Java, Node, PHP, Ruby, msmtp and others")
    parser.add_argument("--prometheus", action="store_true")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args()


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    """A folder (and a cgroup of its name) for this launch; a lock in it tells the living from the left behind."""
    remove_leftovers()
    state = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield state
        finally:
            cgroups.remove(state.name)
            shutil.rmtree(state, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove what launches left that were killed with SIGKILL: an empty folder, empty cgroups."""
    for state in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (state / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cgroups.remove(state.name)
            shutil.rmtree(state, ignore_errors=True)


def outside(options: argparse.Namespace) -> int:
    """Build what is missing, then run `inside.py` as the first process of new namespaces and wait for it."""
    wanted = build.Wanted(
        kube=not options.no_kube,
        nodes=not options.no_kube and options.nodes > 0,
        images=not options.no_kube and options.nodes > 0 and not options.no_images,
        mail=options.mail,
        refusals=options.refusals,
        clients=options.clients,
        prometheus=options.prometheus,
    )
    parts = build.ensure(wanted)
    with state_folder() as state:
        parts.write(state / "parts.json")
        inside = [sys.executable, str(Path(__file__).with_name("inside.py")), str(state), *options.command]
        argv = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--net", "--pid", "--uts", "--ipc"]
        process = subprocess.Popen([*argv, "--fork", "--kill-child", "--mount-proc", "--", *inside])

        received: list[int] = []

        def end(number: int, _frame: object) -> None:
            received.append(number)
            process.kill()  # its first process dies with it, and all that is inside with that one

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGHUP, end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command has it from the terminal; its end is ours
        code = process.wait()
        if received:
            return 128 + received[0]
        return 128 - code if code < 0 else code


def main() -> int:
    """Check, build, run."""
    options = arguments()
    if os.geteuid() != 0:
        cache.say("namespaces and mounts need root: run this as root (make demo needs neither)")
        return FAILED
    try:
        return outside(options)
    except cache.BuildError as error:
        cache.say(str(error))
        return FAILED


if __name__ == "__main__":
    sys.exit(main())

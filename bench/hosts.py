"""``check --hosts``: 1,000 hosts, sessions a second beside blackbox_exporter's SMTP module and swaks under xargs.

Every session is the same: EHLO, STARTTLS with the certificate verified, EHLO, QUIT. The hosts are addresses of
loopback, served by one server in Go. A host costs nothing here but processor time, which is what limits such a run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import programs
from bench.measure import FRESH, BoundPassedError, median

HOSTS, OF_SWAKS, ROUNDS, PARALLEL = 1000, 100, 3, 32
# How many times the peer's sessions a second ours must reach: a compiled program is out of reach, a slower version not.
AT_LEAST = {"blackbox_exporter": 0.05, "swaks, xargs -P": 2.0}
MODULE = """
modules:
  smtp_starttls:
    prober: tcp
    timeout: 10s
    tcp:
      query_response:
        - expect: "^220"
        - send: "EHLO shop.example.com\\r"
        - expect: "^250[ -]STARTTLS"
        - expect: "^250 "
        - send: "STARTTLS\\r"
        - expect: "^220"
        - starttls: true
        - send: "EHLO shop.example.com\\r"
        - expect: "^250[ -]AUTH"
        - expect: "^250 "
        - send: "QUIT\\r"
        - expect: "^221"
      tls_config: {{ca_file: {ca}, server_name: {name}}}
"""


def main() -> None:
    """Print a row a program: sessions a second, and ours divided by theirs."""
    with tempfile.TemporaryDirectory() as name, programs.mail(Path(name)) as server:
        folder = Path(name)
        lines = [f"127.1.{number // 250}.{number % 250 + 1}:{server.port}" for number in range(HOSTS)]
        (folder / "all").write_text("\n".join(lines) + "\n")
        (folder / "some").write_text("\n".join(lines[:OF_SWAKS]) + "\n")
        with exporter(folder, server.ca) as url:
            rounds = [_round(folder, server, url) for _ in range(ROUNDS + 1)][1:]
    print(
        f"\n{HOSTS} hosts, STARTTLS and a verified certificate, {PARALLEL} at a time, {ROUNDS} rounds in turn, medians"
    )
    ours = [one["smtpprobe check --hosts"] for one in rounds]
    below = []
    for peer in rounds[0]:
        rates = [one[peer] for one in rounds]
        share = median([mine / theirs for mine, theirs in zip(ours, rates, strict=True)])
        bound = AT_LEAST.get(peer)
        print(f"{peer:26} {median(rates):8.1f} sessions/s   ours/theirs {share:6.2f}", end="")
        print(f" (at least {bound:g})" if bound else "")
        if bound and share < bound:
            below.append(f"{peer}: {share:.2f} times its sessions a second, bound {bound:g}")
    if below:
        raise BoundPassedError("; ".join(below))


def _round(folder: Path, server: programs.Mail, url: str) -> dict[str, float]:
    check = [sys.executable, "-m", "smtpprobe", "check", "--hosts", str(folder / "all"), "--parallel", str(PARALLEL)]
    check += ["--mode", "starttls", "--ca", str(server.ca), "--server-name", programs.SERVER_NAME]
    check += ["--helo", "shop.example.com", "--output", "json"]
    drive = [str(programs.gotools()), "drive", "-url", url, "-parallel", str(PARALLEL), str(folder / "all")]
    swaks = ["xargs", "-a", str(folder / "some"), "-P", str(PARALLEL), "-I{}", "swaks", "--server", "{}", "--tls"]
    swaks += ["--tls-verify", "--tls-ca-path", str(server.ca), "--helo", "shop.example.com"]
    swaks += ["--quit-after", "EHLO", "--from", "a@example.com", "--to", "b@example.org"]
    return {
        "smtpprobe check --hosts": HOSTS / _seconds(check),
        "blackbox_exporter": HOSTS / _seconds(drive),
        "swaks, xargs -P": OF_SWAKS / _seconds(swaks),
    }


def _seconds(argv: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **FRESH, **programs.swaks_environment()},
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return took


@contextmanager
def exporter(folder: Path, ca: Path) -> Iterator[str]:
    """Run blackbox_exporter; gives the start of a probe's URL."""
    config = folder / "blackbox.yml"
    config.write_text(MODULE.format(ca=ca, name=programs.SERVER_NAME))
    port = programs.free_port()
    argv = [str(programs.blackbox()), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen([*argv, "--log.level=error"], stderr=subprocess.DEVNULL) as process:
        try:
            programs.wait_for(port)
            yield f"http://127.0.0.1:{port}/probe?module=smtp_starttls&target="
        finally:
            process.terminate()

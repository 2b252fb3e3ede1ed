"""Discovery of six ports on one host over a link with 50 ms round trip: two at a time beside the single walks.

Each port is walked alone, then all of them by mode auto, in turn in one process. The bound is on the slower of the two
chains of three in which the list of ports is worked off.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import link, programs
from bench.measure import hold, median
from smtpprobe.discovery import PORTS
from smtpprobe.model import ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode

LIMIT, RUNS = 1.2, 5
# Each server program has a port with STARTTLS and one with TLS at once; 0 is any.
SERVERS = ((587, 465), (25, 2465), (2525, 0), (2587, 0))
MODES = {25: "starttls", 465: "smtps", 587: "starttls", 2465: "smtps", 2525: "starttls", 2587: "starttls"}


def main() -> None:
    """Print the walks, both chains and the whole; over its bound raises BoundPassedError."""
    with (
        tempfile.TemporaryDirectory() as name,
        link.link() as (client, server),
        servers(Path(name), server.enter) as ca,
    ):
        argv = [*client.enter, sys.executable, "-m", "bench.discovery", link.SERVER, str(ca)]
        out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured = json.loads(out)
    alone = [median(measured["alone"][str(port)]) for port in PORTS]
    chains = [sum(alone[first::2]) for first in range(2)]
    whole = median(measured["together"])
    share = whole / max(chains)
    print(f"\nDiscovery of six ports over a link with 50 ms round trip, two at a time, {RUNS} runs in turn, medians")
    for port, seconds in zip(PORTS, alone, strict=True):
        print(f"  {port:5} {MODES[port]:9} alone {seconds * 1000:7.1f} ms")
    print(f"  chains of three {chains[0] * 1000:7.1f} and {chains[1] * 1000:7.1f} ms, all six {whole * 1000:7.1f} ms")
    print(f"  = {share:.3f} of the slower chain (bound {LIMIT})")
    hold("discovery of six ports, of the slower chain of three", share, LIMIT)


@contextmanager
def servers(folder: Path, within: tuple[str, ...]) -> Iterator[Path]:
    """Run mail servers on the six real ports of the link's far end; gives the CA's file."""
    ca, chain, key = programs.certificate(folder)
    with ExitStack() as stack:
        for plain, tls in SERVERS:
            argv = [*within, str(programs.gotools()), "serve", "-cert", str(chain), "-key", str(key)]
            argv += ["-plain", f"{link.SERVER}:{plain}", "-tls", f"{link.SERVER}:{tls}"]
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            assert process.stdout is not None
            for _ in range(2):
                process.stdout.readline()
        yield ca


def drive(host: str, ca: str) -> None:
    """Walk and discover in turn, and print the seconds as JSON."""
    alone: dict[int, list[float]] = {port: [] for port in PORTS}
    together: list[float] = []
    for turn in range(RUNS + 1):
        for port in PORTS:
            seconds, result = timed(host, ca, port)
            _expect(result, {port: MODES[port]})
            alone[port] += [seconds] if turn else []
        seconds, result = timed(host, ca, 0)
        _expect(result, MODES)
        together += [seconds] if turn else []
    print(json.dumps({"alone": alone, "together": together}))


def timed(host: str, ca: str, port: int) -> tuple[float, ProbeResult]:
    """Hold one session of mode auto without a login; with port 0 all six are looked at."""
    tls = TlsOptions(ca_file=ca, server_name=programs.SERVER_NAME)
    request = ProbeRequest(host=host, port=port, mode=Mode.AUTO, depth=Depth.TLS, helo_name="shop.example.com", tls=tls)
    begin = time.perf_counter()
    result = asyncio.run(probe(request, None))
    return time.perf_counter() - begin, result


def _expect(result: ProbeResult, modes: dict[int, str]) -> None:
    found = {port.port: str(port.mode) for port in result.discovery.ports} if result.discovery else {}
    if found != modes or result.verdict is not None:
        raise RuntimeError(f"the measured session is not what it should be: {found}, {result.message}")


if __name__ == "__main__":
    drive(*sys.argv[1:])

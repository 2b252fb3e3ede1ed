"""Run the stories: servers up, manifests written, the local operator over them, then what a person would look at."""

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from urllib.request import urlopen

import yaml

from demo.servers import Certificates, Ports, make_certificates, running
from smtpprobe import spec as specs
from smtpprobe.report import from_status
from smtpprobe.resource import decode_status

METRIC_LINES = (
    "smtpprobe_success{",
    "smtpprobe_failure_reason{",
    "smtpprobe_stage_success{",
    "smtpprobe_egress_authorized{",
    "smtpprobe_consecutive_failures{",
    "smtpprobe_certificate_not_after_timestamp_seconds{",
)
SHOWN = "relay-ip-not-registered"


def _secret(name: str, username: str, password: str) -> str:
    return dedent(f"""\
        apiVersion: v1
        kind: Secret
        metadata: {{name: {name}}}
        stringData: {{username: "{username}", password: "{password}"}}
        ---
        """)


def _probe(name: str, port: int, mode: str, extra: str = "") -> str:
    return dedent(f"""\
        apiVersion: smtpprobe.dev/v1alpha1
        kind: SmtpProbe
        metadata: {{name: {name}, namespace: demo}}
        spec:
          host: localhost
          port: {port}
          mode: {mode}
          heloName: shop.example.com
          timeoutSeconds: 15
        """) + "".join(f"  {line}\n" for line in extra.splitlines())


def manifests(ports: Ports, certificates: Certificates) -> dict[str, str]:
    """Return file name → YAML of the seed stories."""
    ca = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "demo-ca", "namespace": "demo"},
            "data": {"ca.crt": certificates.ca.read_text()},
        }
    )
    trust = "tls: {caRef: {kind: ConfigMap, name: demo-ca, key: ca.crt}}\n"
    login = "credentialsSecretRef: {{name: {}}}\n"
    envelope = "envelope: {from: noreply@shop.example.com, to: [postmaster@example.org]}\n"

    def with_login(name: str, user: str, password: str) -> str:
        return _secret(name, user, password).replace(f"{{name: {name}}}", f"{{name: {name}, namespace: demo}}")

    return {
        "ca.yaml": ca,
        "good.yaml": with_login("good", "sender@corp.test", "correct-horse")
        + _probe("all-as-it-should-be", ports.submission, "starttls", trust + login.format("good") + envelope),
        "bare-user.yaml": with_login("bare", "sender", "correct-horse")
        + _probe("user-without-domain", ports.submission, "starttls", trust + login.format("bare")),
        "ssl-where-starttls.yaml": _probe("ssl-where-starttls", ports.submission, "smtps", trust),
        "said-25-is-465.yaml": _probe("said-25-is-465", ports.smtps, "plain"),
        "relay.yaml": _probe(SHOWN, ports.relay, "plain", envelope),
        "ses.yaml": with_login("iam", "AKIADEMOIOSFODNN7", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        + _probe("ses-with-iam-secret", ports.ses, "starttls", trust + login.format("iam")),
    }


async def demo() -> int:
    """Play the stories once; with KEEP=1 the servers and the operator stay until interrupted."""
    keep = os.environ.get("KEEP") == "1"
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own chatter is no part of the story
    with tempfile.TemporaryDirectory(prefix="smtpprobe-demo-") as name:
        folder = Path(name)
        certificates = make_certificates(folder)
        probes = folder / "probes"
        probes.mkdir()
        async with running(certificates) as ports:
            for file, text in manifests(ports, certificates).items():
                (probes / file).write_text(text)
            print("Six SmtpProbes against embedded mail servers, each with the fault of one story:\n", flush=True)
            operator = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "smtpprobe_operator",
                "local",
                str(probes),
                "--once",
                "--serve-until-stdin-closes",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert operator.stdin is not None and operator.stdout is not None
            address = ""
            async for raw in operator.stdout:
                line = raw.decode()
                if line.startswith("metrics: "):
                    address = line.split()[1]
                    break
                print(line, end="", flush=True)
            if not address:
                return await operator.wait() or 1
            show(probes, await asyncio.to_thread(_scrape, address))
            if keep:
                print(f"\nKEEP=1: manifests and statuses in {probes}, metrics at {address}; Ctrl-C ends it.")
                await asyncio.Event().wait()
            operator.stdin.close()
            return await operator.wait()


def _scrape(address: str) -> str:
    with urlopen(address, timeout=10) as reply:  # loopback only
        return str(reply.read().decode())


def show(probes: Path, metrics: str) -> None:
    """Print one whole diagnosis and six metric lines."""
    resource = yaml.safe_load((probes / f"{SHOWN}.status.yaml").read_text())
    manifest = next(yaml.safe_load_all((probes / "relay.yaml").read_text()))
    spec = specs.parse(manifest["spec"]).spec
    assert spec is not None
    print(f"\nOne of them whole, as `smtpprobe explain {SHOWN}.status.yaml` prints it from the status alone:\n")
    print(from_status(decode_status(resource["status"]), spec))
    print("\nThe same in Prometheus:\n")
    lines = metrics.splitlines()
    for prefix in METRIC_LINES:
        print(next((line for line in lines if line.startswith(prefix)), f"{prefix}…}} (absent)"))


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(demo()))
    except KeyboardInterrupt:
        sys.exit(0)

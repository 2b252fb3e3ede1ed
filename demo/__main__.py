"""Run the stories: servers up, manifests written, the local operator over them, then what a person would look at."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import yaml

from demo.servers import Certificates, Ports, make_certificates, running
from smtpprobe import spec as specs
from smtpprobe.report import from_status
from smtpprobe.resource import decode_status
from smtpprobe.usage import colour_wanted, terminal_width

SHOWN = "relay-ip-not-registered"
GOOD = "all-as-it-should-be"
METRIC_LINES = (
    ("smtpprobe_success", f'name="{GOOD}"'),
    ("smtpprobe_success", f'name="{SHOWN}"'),
    ("smtpprobe_failure_reason", f'name="{SHOWN}"'),
    ("smtpprobe_stage_success", f'name="{SHOWN}",namespace="demo",stage="rcpt"'),
    ("smtpprobe_egress_authorized", f'name="{SHOWN}"'),
    ("smtpprobe_certificate_not_after_timestamp_seconds", f'name="{GOOD}"'),
)


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
        + _probe(GOOD, ports.submission, "starttls", trust + login.format("good") + envelope),
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
            files = manifests(ports, certificates)
            for file, text in files.items():
                (probes / file).write_text(text)
            print("Six SmtpProbes against embedded mail servers, each with the facts that somebody was given:\n")
            metrics = folder / "metrics.prom"
            code = await _operator(str(probes), "--once", "--metrics-file", str(metrics))
            if code != 0:
                return code
            show(probes, metrics.read_text())
            if keep:
                print(f"\nKEEP=1: manifests and statuses are in {probes}; change one and look. Ctrl-C ends it.\n")
                return await _operator(str(probes))
            print(
                "\nNext: `KEEP=1 make demo` keeps it running, `.venv/bin/smtpprobe check HOST:PORT` tries your server."
            )
            return 0


async def _operator(*arguments: str) -> int:
    """Run ``smtpprobe-operator local`` on this terminal; it goes when we go."""
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "smtpprobe_operator", "local", *arguments)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def show(probes: Path, metrics: str) -> None:
    """Print one whole diagnosis and six metric lines."""
    resource = yaml.safe_load((probes / f"{SHOWN}.status.yaml").read_text())
    spec = specs.parse(resource["spec"]).spec
    print(f"\nOne of them whole, as `smtpprobe explain {SHOWN}.status.yaml` prints it from the status alone:\n")
    print(from_status(decode_status(resource["status"]), spec, colour=colour_wanted(), width=terminal_width()))
    print("\nThe same for Prometheus:\n")
    lines = metrics.splitlines()
    for metric, labels in METRIC_LINES:
        print(next(line for line in lines if line.startswith(f"{metric}{{") and labels in line))


async def _main() -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await demo()
    except asyncio.CancelledError:
        print("\nended", file=sys.stderr)
        return 0 if os.environ.get("KEEP") == "1" else 130


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))

"""The arguments of a command as a request: with the checks of a manifest, saying flags where those name fields."""

import argparse
import re
import ssl
from typing import Any

import msgspec

from smtpprobe import spec as specs
from smtpprobe.model import ProbeRequest
from smtpprobe.usage import UsageError, split_target
from smtpprobe.vocabulary import Mode

DEFAULT_PORTS = {Mode.PLAIN: 25, Mode.STARTTLS: 587, Mode.SMTPS: 465}
# Where a refusal names a field of the resource, the command line says the same with a flag.
FLAGS = {
    "spec.host": "HOST",
    "spec.port": "PORT",
    "spec.mode": "--mode",
    "spec.mechanism": "--mechanism",
    "spec.allowPlaintextAuth": "--allow-plaintext-auth",
    "spec.tryUsernameVariants": "--try-username-variants",
    "spec.tls.serverName": "--server-name",
    "spec.tls.minVersion": "--min-tls",
    "spec.tls.insecureSkipVerify": "--insecure",
    "spec.heloName": "--helo",
    "spec.envelope.from": "--from",
    "spec.envelope.to": "--to",
    "spec.envelope": "--from",
    "spec.depth": "--depth",
    "spec.credentialsSecretRef": "--username",
    "spec.tls.caRef": "--ca",
    "insecureSkipVerify": "--insecure",
    "tryUsernameVariants": "--try-username-variants",
}


def to_raw_spec(options: argparse.Namespace) -> dict[str, Any]:
    """Return the spec that a manifest would carry for these arguments, so that one set of checks serves both."""
    host, port = split_target(options.host)
    mode = Mode(options.mode)
    raw: dict[str, Any] = {"host": host, "mode": mode.value}
    if port or mode in DEFAULT_PORTS:
        raw["port"] = port or DEFAULT_PORTS[mode]
    tls = {
        "serverName": options.server_name,
        "minVersion": options.min_tls if options.min_tls != "1.2" else None,
        "insecureSkipVerify": options.insecure or None,
    }
    raw["tls"] = {key: value for key, value in tls.items() if value is not None}
    if options.username is not None:
        raw["credentialsSecretRef"] = {"name": "command-line"}
        raw["mechanism"] = str(options.mechanism)
    if options.allow_plaintext_auth:
        raw["allowPlaintextAuth"] = True
    if options.try_username_variants:
        raw["tryUsernameVariants"] = True
    if options.helo:
        raw["heloName"] = options.helo
    if options.mail_from is not None or options.rcpt_to:
        raw["envelope"] = {"from": options.mail_from or "", "to": options.rcpt_to}
    if options.depth:
        raw["depth"] = str(options.depth)
    return {key: value for key, value in raw.items() if value != {}}


def build_request(options: argparse.Namespace) -> ProbeRequest:
    """Turn arguments into a request; raises UsageError with every problem that the manifest checks find."""
    parsed = specs.parse(to_raw_spec(options))
    if parsed.spec is None or parsed.problems:
        raise UsageError("; ".join(f"{_flag(p.field)}: {_in_flags(p.message)}" for p in parsed.problems))
    if not 1 <= options.timeout <= 600:
        raise UsageError(f"--timeout {options.timeout:g}: write seconds from 1 to 600")
    if options.ca:
        try:
            ssl.create_default_context(cafile=options.ca)
        except (OSError, ssl.SSLError) as error:
            why = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise UsageError(f"--ca {options.ca}: {why}") from None
    request = specs.to_request(parsed.spec, default_helo=None, credentials_dir=None, ca_file=options.ca, refused=None)
    return msgspec.structs.replace(request, timeout_seconds=options.timeout, credentials=None)


def _flag(field: str) -> str:
    return FLAGS.get(field.partition("[")[0], field)


def _in_flags(text: str) -> str:
    """Say flags where a sentence about a manifest names fields."""
    for field, flag in sorted((FLAGS | {"spec.envelope": "--from and --to"}).items(), reverse=True):
        text = re.sub(rf"{re.escape(field)}(?![\w.])", flag, text)
    return text

"""From what somebody wrote under ``spec`` to a typed Spec and to the request of one run.

All checks of a spec are here and in the CRD, in the same words: ``kubectl apply`` refuses with them, and so do
``smtpprobe try``, ``smtpprobe-operator local`` and, for what only Python can see, the condition Accepted.
"""

from typing import NamedTuple

from smtpprobe import specrules, specshape
from smtpprobe.model import (
    DEFAULT_HELO_NAME,
    CredentialFiles,
    Envelope,
    ProbeRequest,
    RefusedLogin,
    TlsOptions,
    Variants,
)
from smtpprobe.resource import Spec
from smtpprobe.specrules import interval_seconds
from smtpprobe.specshape import Problem
from smtpprobe.vocabulary import Depth, Mode

__all__ = [
    "DEFAULT_INTERVAL",
    "Parsed",
    "Problem",
    "effective_depth",
    "interval_seconds",
    "parse",
    "to_request",
]

DEFAULT_INTERVAL = "30m"


class Parsed(NamedTuple):
    """The typed spec, or None and every problem that stands against it."""

    spec: Spec | None
    problems: tuple[Problem, ...] = ()


def parse(raw: object) -> Parsed:
    """Judge the value of ``spec`` as the API server and its rules do, and fill in the defaults.

    Every broken field has its own problem; none hides another.
    """
    clean, problems = specshape.check(raw)
    problems += specrules.check(clean, port=isinstance(raw, dict) and raw.get("port") is not None)
    if problems:
        return Parsed(None, tuple(dict.fromkeys(problems)))
    return Parsed(specshape.convert(clean))


def effective_depth(spec: Spec) -> Depth:
    """Return how far a session goes where ``depth`` is not given (design §4)."""
    if spec.depth is not None:
        return spec.depth
    if spec.envelope is not None:
        return Depth.ENVELOPE
    if spec.credentials_secret_ref is not None:
        return Depth.AUTH
    return Depth.EHLO if spec.mode is Mode.PLAIN else Depth.TLS


def to_request(
    spec: Spec,
    *,
    default_helo: str | None,
    credentials_dir: str | None,
    ca_file: str | None,
    refused: RefusedLogin | None,
    tls_seen: tuple[int, ...] = (),
) -> ProbeRequest:
    """Build the request of one run; it holds no secret.

    ``credentials_dir`` and ``ca_file`` are paths where the prober will find the Secret's and the CA's keys; without
    ``credentials_dir`` the credentials come to the prober by another way. ``tls_seen``: see ``ProbeRequest``.
    """
    reference = spec.credentials_secret_ref
    files = None
    if reference is not None and credentials_dir is not None:
        files = CredentialFiles(
            directory=credentials_dir,
            secret_name=reference.name,
            username_key=reference.username_key,
            password_key=reference.password_key,
        )
    envelope = spec.envelope
    return ProbeRequest(
        host=spec.host,
        port=spec.port or 0,
        mode=spec.mode,
        depth=effective_depth(spec),
        mechanism=spec.mechanism,
        allow_plaintext_auth=spec.allow_plaintext_auth,
        tls=TlsOptions(
            server_name=spec.tls.server_name,
            ca_file=ca_file,
            min_version=spec.tls.min_version,
            insecure_skip_verify=spec.tls.insecure_skip_verify,
        ),
        helo_name=spec.helo_name or default_helo or DEFAULT_HELO_NAME,
        envelope=None if envelope is None else Envelope(mail_from=envelope.from_, rcpt_to=envelope.to),
        credentials=files,
        refused=refused,
        timeout_seconds=float(spec.timeout_seconds),
        tls_required=spec.mode is Mode.AUTO and (reference is not None or spec.depth is Depth.TLS),
        tls_seen=tls_seen,
        variants=Variants() if spec.try_username_variants else None,
    )

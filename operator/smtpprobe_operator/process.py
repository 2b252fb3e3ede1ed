"""I/O: one probe as a process of this machine, laid out as a kubelet would lay out the pod."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from smtpprobe.codec import ResultUnreadable, decode_result, encode_request
from smtpprobe.credentials import new_salt
from smtpprobe.manifests import Bundle, Manifest, ManifestError
from smtpprobe.model import AuthFacts, ProbeRequest, ProbeResult, RefusedLogin, Verdict
from smtpprobe.resource import Spec
from smtpprobe.trial import lay_out
from smtpprobe.vocabulary import Outcome, Reason

GRACE_SECONDS = 30.0
_NO_LOGIN = AuthFacts()
PASSED_ON = ("PATH", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG", "TMPDIR")


class ProbeProcess:
    """One run: ``result`` starts the process and waits for it, ``stop`` asks it to write what it has."""

    def __init__(self, manifest: Manifest, bundle: Bundle, spec: Spec, *, tls_seen: tuple[int, ...] = ()) -> None:
        self._manifest = manifest
        self._bundle = bundle
        self._spec = spec
        self._tls_seen = tls_seen
        self._process: asyncio.subprocess.Process | None = None

    def stop(self) -> None:
        """End the session early; a login that was sent is still reported."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def result(
        self, helo: str | None, refused: RefusedLogin | None, remember: Callable[[ProbeRequest], ProbeRequest]
    ) -> ProbeResult:
        """Run to the end, at most ``timeoutSeconds`` and half a minute; what goes wrong is an Error with its reason.

        ``remember`` adds to the request what the status knows.
        """
        with tempfile.TemporaryDirectory(prefix="smtpprobe-") as name:
            folder = Path(name)
            try:
                request = lay_out(self._manifest, self._bundle, self._spec, folder, helo)
            except ManifestError as error:
                return _error(Reason.SECRET_KEY_MISSING, str(error))
            request = remember(msgspec.structs.replace(request, refused=refused, tls_seen=self._tls_seen))
            return await self._run(encode_request(request).decode(), folder / "termination")

    async def _run(self, request: str, log: Path) -> ProbeResult:
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "smtpprobe.pod",
            env=kept | {"SMTPPROBE_REQUEST": request, "SMTPPROBE_TERMINATION_LOG": str(log)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to handle: the process must live to write what it has
        )
        self._process = process
        within = self._spec.timeout_seconds + GRACE_SECONDS
        try:
            await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            return _error(Reason.DEADLINE_EXCEEDED, f"the probe ran longer than {within:g} s", _lost_login())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _result_in(log, process.returncode)


def _result_in(log: Path, code: int | None) -> ProbeResult:
    try:
        return decode_result(log.read_bytes())
    except (OSError, ResultUnreadable) as error:
        return _error(Reason.RESULT_UNREADABLE, f"the probe ended with {code}: {error}", _lost_login())


def _lost_login() -> AuthFacts:
    """Count the login of a process that ended without a word: it may have been sent."""
    return AuthFacts(sent=True, refused=True, salt=new_salt())


def _error(reason: Reason, message: str, auth: AuthFacts = _NO_LOGIN) -> ProbeResult:
    now = datetime.now(UTC)
    verdict = Verdict(reason=reason, rule="local")
    return ProbeResult(
        outcome=Outcome.ERROR, started_at=now, finished_at=now, verdict=verdict, message=message, auth=auth
    )

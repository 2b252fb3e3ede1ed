"""The one login of a session: whether it may be sent, the exchange, and what must be remembered of a refusal."""

import asyncio
import functools
from collections.abc import Callable

import msgspec

from smtpprobe import auth, ses
from smtpprobe.credentials import Credentials, fingerprint, new_salt, user_shape
from smtpprobe.dialogue import Dialogue, Heard
from smtpprobe.faults import Fault, fault
from smtpprobe.model import AuthFacts, ProbeRequest, RefusedLogin, Verdict
from smtpprobe.offers import Offers
from smtpprobe.redact import Redactor
from smtpprobe.replies import mechanisms
from smtpprobe.threads import beside
from smtpprobe.vocabulary import REASONS, Mechanism, Note, Reason, Stage
from smtpprobe.wire import Limit

_HIDDEN = "[credentials]"


class Login:
    """Decide, log in, remember. ``facts`` is what the result says of it."""

    def __init__(self, request: ProbeRequest, credentials: Credentials | None) -> None:
        self.facts = AuthFacts()
        self.notes: set[Note] = set()
        self._request = request
        self._credentials = credentials
        self._fingerprint: asyncio.Future[str] | None = None
        self._salt: str | None = None
        self._pasted = self._pasted_secret()
        self._temporary = False
        self.choice: str | None = None
        if credentials is not None:
            self.facts = AuthFacts(user_shape=user_shape(credentials.username))

    def prepare(self) -> None:
        """Begin the comparison with the refused credentials: it takes longer than a round trip."""
        if self._request.refused is not None:
            self._begin_fingerprint(self._request.refused.salt)

    async def run(
        self, talk: Dialogue, offers: Offers, limit: Callable[[], Limit], redactor: Redactor
    ) -> Heard | Fault:
        """Send AUTH, once, unless there is a reason not to; return the last reply."""
        assert self._credentials is not None  # noqa: S101 - the session checks before it walks
        mechanism = auth.choose(self._request.mechanism, mechanisms(offers.keywords))
        if isinstance(mechanism, Reason):
            talk.wire.catch_up()
            return self._not_offered(mechanism, mechanisms(offers.stored))
        kept_back = self._pasted
        if kept_back is None and self._request.refused is not None:
            kept_back = await self._paused(self._request.refused)
        if kept_back is not None:
            return kept_back
        exchange = auth.exchange(mechanism, self._credentials)
        self.facts = msgspec.structs.replace(self.facts, mechanism=mechanism, sent=True)
        talk.wire.later(functools.partial(self._explain, mechanism, offers))
        line, shown = exchange.first(), f"AUTH {mechanism}"
        if line.count(b" ") > 1:
            shown += f" {_HIDDEN}"
        while True:
            talk.wire.later(functools.partial(redactor.learn, line))
            heard = await talk.ask(line, Stage.AUTH, limit(), shown=shown)
            if isinstance(heard, Fault):
                return heard
            if heard.code != 334:
                break
            answer = exchange.answer(heard.raw.lines[-1]) if len(heard.raw.lines) == 1 else None
            if answer is None:
                return await self._cancel(talk, limit(), exchange.problem or "a challenge of several lines")
            line, shown = answer, _HIDDEN
        if heard.code == 235 and exchange.problem is not None:
            return fault(Reason.PROTOCOL_ERROR, "auth-exchange", exchange.problem, reply=heard.reply)
        if heard.code == 235:
            self.facts = msgspec.structs.replace(self.facts, succeeded=True)
            if not exchange.finished:
                self.notes.add(Note.AUTH_SUCCEEDED_EARLY)
        return heard

    def _not_offered(self, reason: Reason, names: tuple[str, ...]) -> Fault:
        wanted = "one that we can speak" if self._request.mechanism is Mechanism.AUTO else self._request.mechanism
        offer = f"the server offers {' '.join(names)}, not {wanted}" if names else "the server offers no login (AUTH)"
        if self._request.mechanism is Mechanism.AUTO and Mechanism.XOAUTH2.value in map(str.upper, names):
            offer += ". For XOAUTH2 the Secret's password must be an access token and spec.mechanism must name it"
        return fault(reason, "auth-offer", offer, notes=frozenset({Note.NOT_SENT}))

    def _explain(self, mechanism: Mechanism, offers: Offers) -> None:
        self.choice = auth.explained(self._request.mechanism, mechanism, mechanisms(offers.stored))

    def _pasted_secret(self) -> Fault | None:
        """Keep back an IAM secret: Amazon SES can only refuse it, and would count the refusal."""
        if self._credentials is None:
            return None
        at = ses.pasted_secret(self._credentials.password, self._request.host, self._request.tls.server_name)
        if at is None:
            return None
        detail = (
            "the password is an IAM secret key (40 characters), not an SMTP password of Amazon SES; no login was sent. "
            f"Derive it: smtpprobe ses-password --region {at.region}"
        )
        verdict = Verdict(reason=Reason.BAD_CREDENTIALS, rule=ses.RULE_IAM_SECRET)
        return Fault(verdict, detail, notes=frozenset({Note.NOT_SENT}))

    async def _paused(self, refused: RefusedLogin) -> Fault | None:
        assert self._fingerprint is not None  # noqa: S101 - prepare has begun it
        mark = await self._fingerprint
        if refused.fingerprint and mark != refused.fingerprint:
            return None
        self.facts = msgspec.structs.replace(self.facts, paused=True)
        detail = (
            f"login paused: these are the credentials that the server refused ({refused.reason}) at "
            f"{refused.since:%Y-%m-%d %H:%M} UTC. Change the Secret, or allow one login with run-now"
        )
        if not refused.fingerprint:
            self.facts = msgspec.structs.replace(self.facts, salt=refused.salt, fingerprint=mark)
            detail = (
                f"login paused: the pod that may have logged in at {refused.since:%Y-%m-%d %H:%M} UTC was lost, and "
                "the login before it did not succeed either. Allow one login with run-now"
            )
        return Fault(Verdict(reason=refused.reason, rule="pause:login"), detail, notes=frozenset({Note.NOT_SENT}))

    async def _cancel(self, talk: Dialogue, limit: Limit, problem: str) -> Fault:
        end = await talk.ask(b"*", Stage.AUTH, limit)
        reply = end.reply if isinstance(end, Heard) else None
        return fault(Reason.PROTOCOL_ERROR, "auth-exchange", f"login given up: {problem}", reply=reply)

    def refused_with(self, code: int, refused: Fault) -> Fault:
        """Take the server's no: one that it calls temporary counts as no refusal, unless another try makes it worse.

        Returns it with the rule that the credentials themselves make clearer.
        """
        assert self._credentials is not None  # noqa: S101 - only a login leads here
        verdict = refused.verdict
        self._temporary = 400 <= code < 500 and not REASONS[verdict.reason].pause
        if verdict.rule == ses.RULE_CREDENTIALS and not ses.is_smtp_password(self._credentials.password):
            verdict = msgspec.structs.replace(verdict, rule=ses.RULE_NOT_DERIVED)
        return refused._replace(verdict=verdict)

    @property
    def counts(self) -> bool:
        """Say whether this is a login that was refused, as the pause counts them."""
        return self.facts.sent and not self.facts.succeeded and not self._temporary

    async def conclude(self) -> None:
        """Mark a login that did not succeed as refused, with the fingerprint by which the next run knows it."""
        if not self.counts:
            return
        if self._fingerprint is None:
            self._begin_fingerprint(new_salt())
        assert self._fingerprint is not None  # noqa: S101 - begun just now
        self.facts = msgspec.structs.replace(
            self.facts, refused=True, salt=self._salt, fingerprint=await self._fingerprint
        )

    def _begin_fingerprint(self, salt: str) -> None:
        assert self._credentials is not None  # noqa: S101 - only a login leads here
        self._salt = salt
        self._fingerprint = beside(functools.partial(fingerprint, self._credentials, salt))

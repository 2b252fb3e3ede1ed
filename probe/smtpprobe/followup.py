"""What follows a session that failed: experiments that settle the verdict, and where asked one more login.

The second login is on a connection of its own, with the best other form of the user name (``usernames``): opt-in,
once for each Secret and spec, never in plaintext, never where logins are paused or the reply speaks of a lock.
"""

import functools
import re
from datetime import datetime

import msgspec

from smtpprobe import chain, decisions, faults, settling, tls, usernames
from smtpprobe.credentials import Credentials, fingerprint
from smtpprobe.decisions import Scene
from smtpprobe.dialogue import Dialogue, LineSink
from smtpprobe.experiments import Lab, Question, walk
from smtpprobe.faults import Fault
from smtpprobe.login import Login
from smtpprobe.memory import REFUSALS_THAT_PAUSE
from smtpprobe.model import AuthFacts, Experiment, SecondLogin
from smtpprobe.plan import REFUSED_RECIPIENTS, stages
from smtpprobe.providers import first_word
from smtpprobe.redact import Redactor
from smtpprobe.replies import mechanisms
from smtpprobe.ses import RULE_IAM_SECRET
from smtpprobe.stages import Stages
from smtpprobe.threads import beside
from smtpprobe.vocabulary import Depth, Mode, Reason, Stage

_ABOUT_THE_NAME = frozenset({Reason.BAD_CREDENTIALS, Reason.USERNAME_FORMAT})
# Whatever the verdict: a server that speaks of these is not asked again.
_HANDS_OFF = re.compile(
    r"lock|block|disabl|suspend|throttl|too many|too much|rate|later|temporar|abuse|exceed|잠[겼금]|차단|정지|초과",
    re.IGNORECASE,
)
_SHAPES = {
    "bare": "without a domain",
    "address": "as a whole address",
    "domain": "in the form DOMAIN\\name",
    "literal": "as the word that this service wants",
}


class FollowUp:
    """The follow-ups of one session, whose stages are ``at``; ``made`` is what the result lists."""

    def __init__(self, at: Stages, login: Login, credentials: Credentials | None, on_line: LineSink | None) -> None:
        self._at = at
        self._login = login
        self._credentials = credentials
        self._on_line = on_line
        self._lab = Lab(at.request, at.mode, at.clock)
        self._form: usernames.Form | None = None
        self._second: Login | None = None
        self._second_reason: Reason | None = None
        self._refused_too = False

    @property
    def made(self) -> tuple[Experiment, ...]:
        """The experiments, in their order."""
        return tuple(self._lab.made)

    async def ask(self, stage: Stage, found: Fault, *, inside: bool, refused: tuple[str, ...]) -> Fault:
        """Return the fault as it stands after the follow-ups.

        ``inside``: those on the living connection only; ``refused``: the recipients that were.
        """
        at = self._at
        assert at.address is not None  # noqa: S101 - the session asks only where it had one
        hello = at.offers.lines[-1] if at.offers.lines else ""
        more = len(refused) < REFUSED_RECIPIENTS
        question = Question(
            at.address,
            at.server_name,
            domain=usernames.own_domain(first_word(at.banner), first_word(hello), at.request.host) if more else "",
            logged_in=self._login.facts.succeeded,
            chain=self._chain(stage, found),
            seen_as=settling.address_seen(at.offers.lines, faults.said(found), at.request.helo_name, at.address.ip),
            refused=refused,
        )
        scene = Scene(
            stage,
            at.mode,
            at.request.port,
            spoke_tls=at.spoke_tls,
            server_hello=at.seen.server_hello,
            min_tls=at.request.tls.min_version,
            settling=at.request.settling_seconds > 0 and not self._login.facts.sent,
        )
        if inside:
            return await self._lab.inside(at.talk, scene, found, question)
        return await self._username(stage, await self._lab.settle(scene, found, question))

    def auth(self, facts: AuthFacts) -> AuthFacts:
        """Add to what the result says of the login: the second one, and the form of the user name to try."""
        form, second = self._form, None
        if self._second is not None and self._second.facts.sent and form is not None:
            second = SecondLogin(
                shape=form.shape,
                succeeded=self._second.facts.succeeded,
                refused=self._second.counts,
                reason=self._second_reason,
            )
        named = form.shown if form is not None and form.shown and not self._refused_too else None
        service = form.service if form is not None and form.service else None
        return msgspec.structs.replace(facts, second=second, username=named, service=service)

    def _chain(self, stage: Stage, found: Fault) -> str:
        reason = found.verdict.reason
        if stage is not Stage.TLS or reason not in decisions.CERTIFICATE_REASONS:
            return ""
        seen = tls.described(self._at.seen)
        if not seen:
            return ""
        number = int(found.verdict.rule.rpartition("-")[2])
        untrusted = number in tls.UNTRUSTED
        other = reason is Reason.CERTIFICATE_INVALID and not untrusted
        said = found.detail.partition(" (")[0] if other else ""
        return chain.told(seen, self._at.server_name, tls.utc_now(), untrusted=untrusted, said=said)

    # -------------------------------------------------------------------------------------------------- user names

    async def _username(self, stage: Stage, found: Fault) -> Fault:
        asks = stage is Stage.AUTH and found.verdict.reason in _ABOUT_THE_NAME
        if not asks or self._credentials is None or found.verdict.rule == RULE_IAM_SECRET:
            return found
        known = self._known(self._credentials, found)
        forms = usernames.forms(known)
        if forms:
            self._form = forms[0]
            sure = forms[0].confidence >= usernames.SURE
            found = found._replace(verdict=decisions.with_form(found.verdict, known=sure))
        if self._at.request.variants is None:
            return found
        one = await self._tried(self._credentials) or await self._try(forms, known, found)
        if one is None:
            return found
        self._refused_too = one.answer == "refused"
        settled, one = decisions.decide(found, one)
        server = self._at.address.ip if self._at.address is not None else None
        self._lab.made.append(msgspec.structs.replace(one, reason=found.verdict.reason, server=server))
        return settled

    def _known(self, credentials: Credentials, found: Fault) -> usernames.Known:
        at, envelope = self._at, self._at.request.envelope
        names = mechanisms(at.offers.stored)
        return usernames.Known(
            username=credentials.username,
            password=credentials.password,
            host=at.request.host,
            banner=at.banner,
            mail_from=envelope.mail_from if envelope else "",
            reply=faults.said(found),
            ntlm="NTLM" in names,
        )

    async def _tried(self, credentials: Credentials) -> Experiment | None:
        """Return what an earlier run found with these very credentials."""
        variants = self._at.request.variants
        tried = variants.tried if variants is not None else None
        if tried is None or await beside(functools.partial(fingerprint, credentials, tried.salt)) != tried.fingerprint:
            return None
        self._form = usernames.Form(shape=tried.shape, shown=tried.username)
        return _found(tried.shape, accepted=tried.succeeded, since=tried.since)

    async def _try(self, forms: tuple[usernames.Form, ...], known: usernames.Known, found: Fault) -> Experiment | None:
        """Log in once more with the best other form that can be sent, unless something speaks against it."""
        form = next((one for one in forms if one.username), None)
        why = self._kept_back(found)
        if why is None and form is None:
            why = usernames.nothing_to_try(known)
        if why is not None or form is None or self._credentials is None:
            return Experiment(name=decisions.USERNAME_VARIANT, showed=f"no second login: {why}") if why else None
        assert self._at.address is not None  # noqa: S101 - the session had one
        wire = await self._lab.open(self._at.address)
        if isinstance(wire, str):
            return Experiment(name=decisions.USERNAME_VARIANT, showed=f"no second login: {wire}")
        self._form = form
        other = Credentials(form.username, self._credentials.password)
        return await self._log_in(other, form, Dialogue(wire, Redactor(other), self._at.clock.began, self._on_line))

    def _kept_back(self, found: Fault) -> str | None:
        variants, request = self._at.request.variants, self._at.request
        if not self._login.facts.sent:
            return "logins are paused" if self._login.facts.paused else "no first one was sent"
        if self._at.mode is Mode.PLAIN or self._at.tls is None:
            return "never in plaintext"
        if not self._login.counts:
            return "the server calls its refusal temporary"
        if hands := _HANDS_OFF.search(faults.said(found)):
            return f"the reply speaks of {hands[0].lower()!r}"
        # A login in spite of a remembered refusal: the Secret has changed since. Else three refusals are the most.
        if variants is not None and variants.refused >= REFUSALS_THAT_PAUSE and request.refused is None:
            return f"refused before ({variants.refused}): that many refusals in a row pause all logins"
        return None

    async def _log_in(self, other: Credentials, form: usernames.Form, talk: Dialogue) -> Experiment:
        """Go through a session of its own to its login, and say goodbye."""
        was = self._at
        request = msgspec.structs.replace(was.request, refused=None)
        login = Login(request, other)
        at = Stages(request, was.mode, was.clock, login=login, redactor=Redactor(other), on_line=self._on_line)
        at.address, at.wire, at.dialogue = was.address, talk.wire, talk
        self._second = login
        at.prepare()
        try:
            ended = await walk(at, stages(was.mode, Depth.AUTH))
            if at.alive:
                await talk.ask(b"QUIT", Stage.QUIT, at.clock.limit("quit", at.clock.limits.quit))
        finally:
            talk.wire.close()
        end = ended[1] if ended is not None else None
        if login.facts.sent:
            self._second_reason = end.verdict.reason if end is not None else None
            return _found(form.shape, accepted=login.facts.succeeded)
        said = f"{end.detail}; {faults.said(end)}" if end is not None else "no login was sent"
        return Experiment(name=decisions.USERNAME_VARIANT, showed=f"no second login: {said}"[:200])


def _found(shape: str, *, accepted: bool, since: datetime | None = None) -> Experiment:
    word = "accepted" if accepted else "refused"
    showed = f"the user name {_SHAPES.get(shape, shape)} is {word}, with the same password"
    return Experiment(name=decisions.USERNAME_VARIANT, showed=showed, answer=word, since=since)

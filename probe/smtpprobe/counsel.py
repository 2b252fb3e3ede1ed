"""From a status to who must act and what to do: gathers the facts that ``advice`` puts into words. Pure."""

from smtpprobe.advice import AdviceFacts, Lang, advise
from smtpprobe.model import ProbeResult
from smtpprobe.resource import Advice, Spec
from smtpprobe.spec import to_request
from smtpprobe.vocabulary import Language, Reason


def advice_for(spec: Spec, reason: Reason, result: ProbeResult | None, *, helo: str | None) -> Advice:
    """Return the advice for the present reason in the spec's language; without ``result`` no session took place."""
    request = to_request(spec, default_helo=helo, credentials_dir=None, ca_file=None, refused=None)
    if result is None:
        return advise(reason, AdviceFacts(host=spec.host, port=spec.port, mode=spec.mode.value), lang_of(spec))
    return advise(reason, AdviceFacts.of(request, result), lang_of(spec))


def lang_of(spec: Spec) -> Lang:
    """Return the language that ``spec.language`` asks for."""
    return "ko" if spec.language is Language.KO else "en"

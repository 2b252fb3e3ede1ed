"""From a status to who must act and what to do: gathers the facts that ``advice`` puts into words. Pure."""

from smtpprobe.model import ProbeResult
from smtpprobe.resource import Advice, Spec, Status
from smtpprobe.vocabulary import REASONS, Reason


def advice_for(
    spec: Spec, reason: Reason, result: ProbeResult | None, status: Status, *, helo: str | None, message: str
) -> Advice:
    """Return the advice for the present reason, with the values of this session."""
    _ = (spec, result, status, helo)
    return Advice(owner=REASONS[reason].owner, text=message)

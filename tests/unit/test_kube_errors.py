"""What an answer of the API server means for the operator."""

from __future__ import annotations

import pytest

from smtpprobe_operator.kube import ApiError

RIGHT = 'jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs" in API group "batch"'
QUOTA = 'jobs.batch "a" is forbidden: exceeded quota: tight, requested: count/jobs.batch=1'
ENDING = 'jobs.batch "a" is forbidden: unable to create new content in namespace a because it is being terminated'


@pytest.mark.parametrize(
    ("code", "message", "lacking"),
    [(403, RIGHT, True), (401, "Unauthorized", True), (403, QUOTA, False), (403, ENDING, False), (404, "", False)],
)
def test_lacking_right_is_told_from_other_refusals(code: int, message: str, lacking: bool) -> None:
    """Only what the authorizer says counts as a right that the operator lacks; quota, policy and a dying namespace do not."""
    assert ApiError(code, "Forbidden", message).not_permitted is lacking

"""Amazon SES: endpoints, shapes of secrets, and the SMTP password against the published vectors."""

import re

import pytest
from hypothesis import given, strategies as st

from smtpprobe import ses

AWS_EXAMPLE = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
VECTORS = [  # the first three: unit test of HashiCorp's AWS provider; the last: AWS's example key, computed apart
    ("some+secret+key", "eu-central-1", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
    ("some+secret+key", "us-west-1", "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj"),
    ("another+secret+key", "eu-central-1", "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"),
    (AWS_EXAMPLE, "us-east-1", "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"),
]


@pytest.mark.parametrize(("secret", "region", "password"), VECTORS)
def test_published_vectors(secret, region, password):
    """The SMTP password is the published one for secret and region."""
    assert ses.smtp_password(secret, region) == password
    assert ses.is_smtp_password(password)
    assert not ses.is_iam_secret(password)


@given(st.text(min_size=1, max_size=80), st.sampled_from(["us-east-1", "ap-northeast-2", "us-gov-west-1"]))
def test_what_is_derived_has_the_shape_of_an_smtp_password(secret, region):
    """Whatever the secret, the password has 44 characters, starts with B and differs from that of another region."""
    password = ses.smtp_password(secret, region)
    assert ses.is_smtp_password(password)
    assert re.fullmatch(r"B[A-Za-z0-9+/]{43}", password)
    assert password != ses.smtp_password(secret, "eu-west-1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("email-smtp.eu-central-1.amazonaws.com", ses.Endpoint("eu-central-1")),
        ("EMAIL-SMTP.US-EAST-1.AMAZONAWS.COM.", ses.Endpoint("us-east-1")),
        ("email-smtp-fips.us-gov-west-1.amazonaws.com", ses.Endpoint("us-gov-west-1", fips=True)),
        ("email-smtp.cn-north-1.amazonaws.com.cn", ses.Endpoint("cn-north-1")),
        (
            "vpce-0a1b2c3d4e5f6a7b8-1q2w3e4r.email-smtp.eu-west-1.vpce.amazonaws.com",
            ses.Endpoint("eu-west-1", private=True),
        ),
        (
            "vpce-0a1b2c3d4e5f6a7b8-1q2w3e4r-eu-west-1a.email-smtp.eu-west-1.vpce.amazonaws.com",
            ses.Endpoint("eu-west-1", private=True),
        ),
        ("email.us-east-1.amazonaws.com", None),
        ("email-smtp.amazonaws.com", None),
        ("inbound-smtp.us-east-1.amazonaws.com", None),
        ("email-smtp.us-east-1.amazonaws.com.example.net", None),
        ("x.email-smtp.us-east-1.amazonaws.com", None),
        ("smtp.example.com", None),
        ("", None),
    ],
)
def test_endpoints(host, expected):
    """SMTP endpoints give their region, FIPS and VPC ones too; other names of Amazon's and foreign ones do not."""
    assert ses.endpoint(host) == expected


@pytest.mark.parametrize(
    ("password", "pasted"),
    [
        (AWS_EXAMPLE, True),
        (AWS_EXAMPLE + "\n", True),
        (AWS_EXAMPLE[:-1], False),
        (AWS_EXAMPLE + "A", False),
        (AWS_EXAMPLE[:-1] + "!", False),
        (VECTORS[0][2], False),
        ("correct-horse-9", False),
        ("", False),
    ],
)
def test_an_iam_secret_is_recognised_at_ses_only(password, pasted):
    """40 characters of base64 are an IAM secret where the host, or the name in the certificate, is one of SES."""
    host = "email-smtp.eu-west-1.amazonaws.com"
    expected = ses.Endpoint("eu-west-1") if pasted else None
    assert ses.pasted_secret(password, host, None) == expected
    assert ses.pasted_secret(password, "127.0.0.1", host) == expected
    assert ses.pasted_secret(password, "smtp.example.com", None) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_shapes_never_raise(host, password):
    """Any text may be asked about."""
    ses.endpoint(host)
    ses.pasted_secret(password, host)
    ses.is_smtp_password(password)
    ses.is_region(password)

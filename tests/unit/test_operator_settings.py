"""Settings from the environment."""

import pytest

from smtpprobe_operator.settings import Settings, SettingsError, from_environment

IMAGE = {"SMTPPROBE_PROBE_IMAGE": "img:1"}


def test_only_the_image_must_be_given():
    """With the probe's image alone every other setting has its default, and an empty variable is not set."""
    assert from_environment({**IMAGE, "SMTPPROBE_MAX_RUNS": "", "OTHER": "x"}) == Settings(probe_image="img:1")


def test_every_form_is_read():
    """Numbers, lists, JSON objects and words are read."""
    found = from_environment(
        {
            **IMAGE,
            "SMTPPROBE_MAX_RUNS": "7",
            "SMTPPROBE_JOBS_PER_SECOND": "0.5",
            "SMTPPROBE_WATCH_NAMESPACES": "a, b",
            "SMTPPROBE_PROBE_IMAGE_PULL_SECRETS": "x,y",
            "SMTPPROBE_PROBE_POD_LABELS": '{"a": "b"}',
            "SMTPPROBE_LOG_LEVEL": "debug",
            "SMTPPROBE_HELO_NAME": "shop.example.com",
        }
    )
    assert (found.max_runs, found.jobs_per_second, found.watch_namespaces) == (7, 0.5, ("a", "b"))
    assert (found.probe_image_pull_secrets, found.probe_pod_labels) == (("x", "y"), {"a": "b"})
    assert (found.log_level, found.helo_name) == ("DEBUG", "shop.example.com")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "SMTPPROBE_PROBE_IMAGE"),
        ({**IMAGE, "SMTPPROBE_MAX_RUNS": "0"}, "SMTPPROBE_MAX_RUNS must be between 1 and 1000"),
        ({**IMAGE, "SMTPPROBE_MAX_RUNS": "many"}, "max_runs"),
        ({**IMAGE, "SMTPPROBE_PROBE_POD_LABELS": "a=b"}, "SMTPPROBE_PROBE_POD_LABELS must be a JSON object"),
        ({**IMAGE, "SMTPPROBE_PROBE_POD_LABELS": '{"a": 1}'}, "probe_pod_labels"),
        ({**IMAGE, "SMTPPROBE_PROBE_IMAGE_PULL_POLICY": "Sometimes"}, "Sometimes"),
    ],
)
def test_refusals_name_the_variable(environ, named):
    """A setting that cannot be used is refused with its name."""
    with pytest.raises(SettingsError, match=named):
        from_environment(environ)

"""The examples are what they say: usable manifests whose Secrets fit."""

from pathlib import Path

import pytest

from smtpprobe import manifests, spec as specs
from smtpprobe.vocabulary import Depth, Mode

FOLDER = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_each_seed_story_has_an_example() -> None:
    """Relay by address, STARTTLS, TLS from the first byte, mode auto, login in the clear, cron, a pinned node, a message."""
    found = [specs.parse(probe.raw["spec"]).spec for probe in manifests.read(FILES).probes]
    assert len(found) == len(FILES) == 8
    assert {spec.mode for spec in found if spec} == set(Mode)
    assert any(spec and spec.allow_plaintext_auth and spec.credentials_secret_ref for spec in found)
    assert any(spec and spec.envelope and not spec.credentials_secret_ref for spec in found)
    assert any(spec and spec.schedule.cron and spec.schedule.time_zone for spec in found)
    assert any(spec and spec.location.node_selector for spec in found)
    assert any(spec and spec.depth is Depth.MESSAGE and spec.envelope for spec in found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_usable_and_its_secret_fits(file: Path) -> None:
    """Each probe is accepted; the Secret and the CA that it names stand in the same file, with the keys that it names."""
    bundle = manifests.read([file])
    for probe in bundle.probes:
        parsed = specs.parse(probe.raw["spec"])
        assert parsed.problems == ()
        assert parsed.spec is not None
        reference, ca = parsed.spec.credentials_secret_ref, parsed.spec.tls.ca_ref
        if reference is not None:
            secret = bundle.data["Secret", probe.namespace, reference.name]
            assert secret[reference.password_key] == b"CHANGE-ME"
            assert secret[reference.username_key]
        if ca is not None:
            assert ca.key in bundle.data[ca.kind, probe.namespace, ca.name]
        assert parsed.spec.helo_name

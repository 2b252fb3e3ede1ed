"""The registry: by uid, newest body wins."""

from smtpprobe_operator.registry import Registry, from_body, is_newer, login_key

SPEC = {"host": "smtp.example.com", "port": 587, "mode": "starttls", "credentialsSecretRef": {"name": "s"}}


def body(uid, *, name="p", version="1", created="2026-01-01T00:00:00Z", spec=SPEC, **more):
    return {
        "metadata": {
            "uid": uid,
            "name": name,
            "namespace": "ns",
            "generation": 1,
            "resourceVersion": version,
            "creationTimestamp": created,
        },
        "spec": spec,
        **more,
    }


def put(registry, *args, **kwargs):
    return registry.put(from_body(body(*args, **kwargs)))


def test_older_body_changes_nothing():
    """A watch that shows an older body than the answer to a patch does not bring yesterday back."""
    registry = Registry()
    assert put(registry, "a", version="10")
    assert not put(registry, "a", version="9")
    assert not put(registry, "a", version="10")
    assert registry.get("a").resource_version == "10"
    assert put(registry, "a", version="11")


def test_namesake_is_another_probe():
    """A probe made under the name of a deleted one replaces it, and a late word about the old one is not heard."""
    registry = Registry()
    put(registry, "old", version="5")
    assert put(registry, "new", version="9", created="2026-01-02T00:00:00Z")
    assert registry.get("old") is None
    assert not put(registry, "old", version="7")
    assert [probe.uid for probe in registry] == ["new"]


def test_removal_of_the_old_one_keeps_the_namesake():
    """Removing a uid that was replaced leaves its namesake alone."""
    registry = Registry()
    put(registry, "old", version="5")
    put(registry, "new", version="9", created="2026-01-02T00:00:00Z")
    assert registry.remove("old") is None
    assert registry.get("new")
    assert not put(registry, "old", version="7")


def test_siblings_share_namespace_secret_and_host():
    """Siblings are those with the same Secret and host, however the host is spelled, and follow spec changes."""
    registry = Registry()
    put(registry, "a", name="a")
    put(registry, "b", name="b", spec={**SPEC, "host": "SMTP.example.com.", "port": 465, "mode": "smtps"})
    put(registry, "c", name="c", spec={**SPEC, "host": "other.example.com"})
    assert [p.uid for p in registry.siblings(registry.get("a"))] == ["b"]
    put(registry, "b", name="b", version="2", spec={**SPEC, "credentialsSecretRef": {"name": "t"}})
    assert registry.siblings(registry.get("a")) == ()
    assert login_key(from_body(body("d", spec={"host": "h.example.com", "port": 25, "mode": "plain"}))) is None


def test_bad_spec_is_data():
    """A spec that cannot be used is kept with its problems, and a status that cannot be read counts as absent."""
    probe = from_body(body("a", spec={"host": "x y", "port": 0, "mode": "plain"}, status={"conditions": 3}))
    assert probe.spec is None
    assert probe.problems
    assert probe.status.observed_generation == -1


def test_versions_are_numbers():
    """resourceVersions are compared as numbers, not as texts."""
    assert is_newer("10", "9")
    assert not is_newer("9", "10")
    assert not is_newer("9", "9")

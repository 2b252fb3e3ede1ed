"""Every address and name of the test cluster, in one place. All live in namespaces that one launch makes for itself."""

from __future__ import annotations

API = "10.200.0.1"
DNS = "10.200.0.53"
SERVICE_NETWORK = "10.96.0.0/16"
POD_NETWORK = "10.244.0.0/16"
NODES = {  # name: (address, pods, zone)
    "node-a": ("10.200.0.11", "10.244.0.0/24", "zone-a"),
    "node-b": ("10.200.0.12", "10.244.1.0/24", "zone-b"),
}
MAIL = {"postfix": "10.200.0.25", "exim": "10.200.0.26", "opensmtpd": "10.200.0.27", "odd": "10.200.0.28"}
HOSTS = {"postfix": "postfix.test", "exim": "exim.test", "opensmtpd": "opensmtpd.test", "odd": "odd.test"}
# servers of tests/smtp/refusals.toml
REFUSALS = {"postfix": "10.200.0.35", "exim": "10.200.0.36", "opensmtpd": "10.200.0.37", "dovecot": "10.200.0.38"}
REFUSAL_HOSTS = {name: f"{name}.refusals.test" for name in REFUSALS}
RELAY_ALLOWED = NODES["node-a"][0]
LOCAL_DOMAIN = "corp.test"

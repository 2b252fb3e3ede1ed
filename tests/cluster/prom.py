"""A real Prometheus, whose configuration and rules the tests write."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import procs
from addresses import API
from cluster_facts import Prometheus

URL = f"http://{API}:9090"
CONFIG = """global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{folder}/rules/*.yml"]
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["{address}:9090"]}}]
"""


def start(programs: procs.Programs, state: Path) -> Prometheus:
    """Start Prometheus, scraping itself only, and wait until it is ready."""
    folder = state / "prometheus"
    (folder / "rules").mkdir(parents=True)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(folder=folder, address=API))
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", "--web.enable-lifecycle"]
    program = programs.start("prometheus", [*argv, f"--web.listen-address={API}:9090"])
    procs.wait("Prometheus", ready, program)
    return Prometheus(URL, str(config), str(folder / "rules"))


def ready() -> bool:
    """Whether Prometheus says that it is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{URL}/-/ready", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False

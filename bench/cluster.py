"""Inside the tests' cluster: from apply to the result beside a bare Job, and API writes a run beside a CronJob."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import cluster_facts
from k8s import Api, eventually, probes

from bench.measure import BoundPassedError, hold, median, ratio

NAMESPACE, SYSTEM = "smtpprobe-test-bench", "smtpprobe-test-system"
ROUNDS = 12
RATIO, OWN_WRITES = 0.9, 3
SUBJECTS = 8
WARM, WINDOW = 150.0, 240.0
WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE"}
OWN_VERBS = {"create", "patch", "update", "delete"}
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"


def main() -> int:
    """Install the operator and print both comparisons; 1 where a figure is over its bound."""
    facts = cluster_facts.load()
    assert facts.kubernetes
    api = Api.from_kubeconfig(facts.kubernetes.kubeconfigs["admin"])
    install(facts)
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}).ok()
    over = 0
    for measure in (latency, writes):
        if not sys.argv[1:] or measure.__name__ in sys.argv[1:]:
            try:
                measure(api, facts)
            except BoundPassedError as error:
                print(f"OVER ITS BOUND: {error}")
                over = 1
    return over


def install(facts: cluster_facts.Facts) -> None:
    """Install the chart; finished Jobs go after a minute, so that their deletion falls into the measured window."""
    values = {"limits.ttlSecondsAfterFinished": "60"}
    for prefix, image in (("image", facts.images["operator"]), ("probe.image", facts.images["probe"])):
        repository, tag = image.rsplit(":", 1)
        values |= {f"{prefix}.repository": repository, f"{prefix}.tag": tag, f"{prefix}.pullPolicy": "Never"}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [
        "helm",
        "install",
        "smtpprobe",
        "charts/smtpprobe-operator",
        "-n",
        SYSTEM,
        "--create-namespace",
        "--wait",
    ]
    subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))


def spec(**more: Any) -> dict[str, Any]:
    """Return the spec of a short session: greeting and EHLO with Exim."""
    return {"host": "exim.test", "port": 25, "mode": "plain", "heloName": "shop.corp.test", **more}


def latency(api: Api, facts: cluster_facts.Facts) -> None:
    """From create to the result in the status, and from create to Complete of a bare Job that sleeps as long."""
    ours, theirs, session = [], [], 0.3
    for number in range(-1, ROUNDS):
        name = f"latency-{number + 1}"
        body = {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe", "metadata": {"name": name}, "spec": spec()}
        start = time.perf_counter()
        api.post(probes(NAMESPACE), body).ok()
        status = eventually(lambda name=name: _passed(api, name), within=60, pause=0.01)
        took = time.perf_counter() - start
        session = sum(stage.get("elapsedMs", 0) for stage in status["locations"][0]["stages"]) / 1000
        api.delete(probes(NAMESPACE, name))
        start = time.perf_counter()
        api.post(JOBS, bare_job(f"bare-{number + 1}", facts, session)).ok()
        eventually(lambda number=number: _complete(api, f"bare-{number + 1}"), within=60, pause=0.01)
        if number >= 0:
            ours.append(took)
            theirs.append(time.perf_counter() - start)
    print(f"\nFrom apply to the result, {ROUNDS} rounds in turn, medians")
    print(f"SmtpProbe, create → result in status      {median(ours):6.2f} s")
    print(f"bare Job sleeping {session * 1000:4.0f} ms, create → Complete {median(theirs):6.2f} s")
    print(f"ratio (bound {RATIO})                          {ratio(ours, theirs):6.2f}")
    hold("apply → result against a bare Job", ratio(ours, theirs), RATIO)


def bare_job(name: str, facts: cluster_facts.Facts, seconds: float) -> dict[str, Any]:
    """Return a Job of the probe's image that sleeps as long as a session takes."""
    container = {
        "name": "probe",
        "image": facts.images["probe"],
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", f"import time; time.sleep({seconds:.3f})"],
    }
    template = {"spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, "backoffLimit": 0},
    }


def writes(api: Api, facts: cluster_facts.Facts) -> None:
    """Count the API server's writes a run at steady state, deletions included."""
    cron = _window(api, lambda name: _cron_job(api, facts, name), f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs")
    before: Counter[str] = Counter()  # what the operator had written when the window opened
    probe = _window(
        api, lambda name: _probe(api, name), probes(NAMESPACE), lambda: before.update(_operator_writes(api))
    )
    runs = probe["runs"]
    own = sum(_operator_writes(api).values()) - sum(before.values())
    assert own > 0, "the operator's metrics tell of no write: they cannot have been read"
    print(f"\nAPI writes a run at steady state, {SUBJECTS} of each, once a minute, from the API server's own metrics")
    for name, counted in (("CronJob", cron), ("SmtpProbe", probe)):
        total = sum(count for key, count in counted.items() if key != "runs")
        print(f"{name:10} {total / counted['runs']:6.1f}   ({counted['runs']} runs; {_top(counted)})")
    ours, theirs = (sum(c.values()) - c["runs"] for c in (probe, cron))
    share = (ours / runs) / (theirs / cron["runs"])
    print(f"ratio (bound {RATIO})  {share:6.2f}")
    print(f"the operator's own share (bound {OWN_WRITES})  {own / runs:6.2f}")
    hold("API writes a run against a CronJob", share, RATIO)
    hold("the operator's own API writes a run", own / runs, OWN_WRITES)


def _window(
    api: Api, create: Callable[[str], None], path: str, opened: Callable[[], Any] = lambda: None
) -> Counter[str]:
    names = [f"steady-{number}" for number in range(SUBJECTS)]
    for name in names:
        create(name)
    _wait(WARM)
    before = _server_writes(api)
    opened()
    _wait(WINDOW)
    counted = _server_writes(api) - before
    for name in names:
        api.delete(f"{path}/{name}", propagationPolicy="Background")
    counted["runs"] = counted["POST jobs"]
    return counted


def _wait(seconds: float) -> None:
    """Let the cluster work: this is the time that is measured, not a wait for something."""
    time.sleep(seconds)


def _cron_job(api: Api, facts: cluster_facts.Facts, name: str) -> None:
    job = {"spec": bare_job(name, facts, 0.3)["spec"]}
    body = {"schedule": "* * * * *", "jobTemplate": job, "successfulJobsHistoryLimit": 1}
    api.post(
        f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs",
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": body},
    ).ok()


def _probe(api: Api, name: str) -> None:
    body = {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe", "metadata": {"name": name}}
    api.post(probes(NAMESPACE), body | {"spec": spec(schedule={"interval": "1m"})}).ok()


def _server_writes(api: Api) -> Counter[str]:
    """Read ``VERB resource`` → count of writes that succeeded, leases and node heartbeats left out."""
    found: Counter[str] = Counter()
    for line in str(api.get("/metrics").ok()).splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if (
            labels["verb"] not in WRITES
            or not labels["code"].startswith("2")
            or labels.get("resource") in {"leases", "nodes"}
        ):
            continue
        resource = "/".join(filter(None, (labels["resource"], labels.get("subresource"))))
        found[f"{labels['verb']} {resource}"] += int(float(line.rsplit(" ", 1)[1]))
    return found


def _operator_writes(api: Api) -> Counter[str]:
    pods = api.get(f"/api/v1/namespaces/{SYSTEM}/pods").ok()["items"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pods[0]['metadata']['name']}:8080/proxy/metrics"
    found: Counter[str] = Counter()
    for line in str(api.get(path).ok()).splitlines():
        if line.startswith("smtpprobe_operator_api_calls_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["verb"] in OWN_VERBS and labels["code"].startswith("2"):
                found[labels["verb"]] += int(float(line.rsplit(" ", 1)[1]))
    return found


def _top(counted: Counter[str]) -> str:
    shown = [(key, count) for key, count in counted.most_common(12) if key != "runs"]
    return ", ".join(f"{key} {count / counted['runs']:.1f}" for key, count in shown)


def _passed(api: Api, name: str) -> dict[str, Any] | None:
    status = api.get(probes(NAMESPACE, name)).ok()["status"]
    ready = [c for c in status.get("conditions", ()) if c["type"] == "Ready" and c["status"] == "True"]
    return status if ready else None


def _complete(api: Api, name: str) -> bool:
    conditions = api.get(f"{JOBS}/{name}").ok()["status"].get("conditions", ())
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


if __name__ == "__main__":
    sys.exit(main())

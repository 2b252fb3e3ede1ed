"""Certificates of two authorities from one host and port, over runs on two nodes; the CA from a ConfigMap or a Secret."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest
import trustme
from hostile import Hostile
from programs import authority, manifest, run, write

from smtpprobe.model import ProbeResult
from smtpprobe.probing import probe
from smtpprobe.report import from_status
from smtpprobe.resource import CaRef, RunRef, Spec, Status, TlsSpec
from smtpprobe.spec import to_request
from smtpprobe.status import Finished, fold, run_digest
from smtpprobe.vocabulary import ConditionType, Mode, Note, Reason


def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ssl.SSLContext]]:
    """The CA file that is trusted, and a server of each authority: the host's own, its renewal, a proxy's."""
    own, proxy = trustme.CA(organization_name="Example Trust"), trustme.CA(organization_name="Corp Proxy")
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    own.cert_pem.write_to_path(str(file))
    return file, {"own": serving(own), "renewed": serving(own), "proxy": serving(proxy)}


def sessions(contexts: dict[str, ssl.SSLContext], file: Path, *shown: str) -> tuple[Spec, list[ProbeResult]]:
    """One session after another with one host and port, which shows each of these certificates in turn.

    A refused certificate may be looked at a second time; each session has a server of its own on the same port.
    """
    results: list[ProbeResult] = []
    port = 0
    for name in shown:
        with Hostile(["@hello"], "smtps", contexts | {"good": contexts[name]}, port=port) as server:
            port = server.port
            ca = CaRef(kind="Secret", name="corp-ca")
            spec = Spec(host="localhost", port=port, mode=Mode.SMTPS, tls=TlsSpec(ca_ref=ca), timeout_seconds=20)
            request = to_request(
                spec, default_helo="probe.example.com", credentials_dir=None, ca_file=str(file), refused=None
            )
            results.append(asyncio.run(probe(request, None)))
    return spec, results


def folded(spec: Spec, results: list[ProbeResult]) -> Status:
    """The status after these runs, on node-a and node-b in turns."""
    status = Status()
    for number, result in enumerate(results):
        ref = RunRef(trigger=f"slot:{number + 1}", generation=1, spec_digest=run_digest(spec))
        end = Finished(run=ref, result=result, node=("node-a", "node-b")[number % 2])
        status = fold(status, spec, generation=1, finished=end, now=result.finished_at)
    return status


def test_a_proxy_that_opens_tls_on_one_node_is_suspected(
    authorities: tuple[Path, dict[str, ssl.SSLContext]],
) -> None:
    """A-B-A-B: node-a gets the server's certificate, node-b a proxy's; after B's run the status says so, with both."""
    file, contexts = authorities
    spec, results = sessions(contexts, file, "own", "proxy", "own", "proxy")
    assert [result.tls is not None and result.tls.verified for result in results] == [True, False, True, False]
    status = folded(spec, results)
    (location,) = status.locations
    assert Note.MIDDLEBOX_SUSPECTED in ((location.evidence or {}).get("notes") or ())
    ready = next(known for known in status.conditions if known.type is ConditionType.READY)
    assert ready.reason == Reason.CERTIFICATE_INVALID
    for words in ("Corp Proxy", "Example Trust", "node node-a"):
        assert words in ready.message
    assert status.advice is not None
    assert "TLS inspection" in status.advice.text
    text = from_status(status, spec)
    assert "CERTIFICATES BY ISSUER" in text
    assert "on node-b" in text
    # At the end of A's run the same is told, but nothing is wrong with A's path.
    (location,) = folded(spec, results[:3]).locations
    assert Note.MIDDLEBOX_SUSPECTED not in ((location.evidence or {}).get("notes") or ())


def test_a_renewed_certificate_is_nothing_to_tell(authorities: tuple[Path, dict[str, ssl.SSLContext]]) -> None:
    """Another certificate of the same authority is no second issuer, from whichever node."""
    file, contexts = authorities
    spec, results = sessions(contexts, file, "own", "renewed")
    prints = {result.tls.chain[0].sha256 for result in results if result.tls is not None}
    status = folded(spec, results)
    assert len(prints) == 2
    assert (len(status.certificates), status.certificates[0].count) == (1, 2)
    assert "CERTIFICATES BY ISSUER" not in from_status(status, spec)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize("key", ["ca.crt", "corp.pem"])
def test_the_ca_comes_from_either_kind_and_any_key(
    kind: str, key: str, tmp_path: Path, authorities: tuple[Path, dict[str, ssl.SSLContext]]
) -> None:
    """A CA in a ConfigMap or a Secret, under the key that spec.tls.caRef names, is the one that is trusted."""
    file, contexts = authorities
    with Hostile(["@hello"], "smtps", {"good": contexts["own"]}) as server:
        reference = {"kind": kind, "name": "corp-ca"} | ({"key": key} if key != "ca.crt" else {})
        text = Path(file).read_text()
        holder = authority("corp-ca", str(file)) | {"kind": kind}
        holder = {name: value for name, value in holder.items() if name not in {"data", "stringData"}}
        holder |= {"stringData" if kind == "Secret" else "data": {key: text}}
        path = write(tmp_path / "probe.yaml", holder, manifest("p", server.port, "smtps", tls={"caRef": reference}))
        done = run("smtpprobe", "try", "-f", str(path), "--output", "json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert answer["status"]["certificates"][0]["verified"] is True


def test_a_ca_that_is_not_there_is_no_bad_certificate(
    tmp_path: Path, authorities: tuple[Path, dict[str, ssl.SSLContext]]
) -> None:
    """A ConfigMap without the key, or none at all, is an Error that names spec.tls.caRef, no verdict about the server."""
    with Hostile(["@hello"], "smtps", {"good": authorities[1]["own"]}) as server:
        path = write(
            tmp_path / "probe.yaml",
            manifest("p", server.port, "smtps", tls={"caRef": {"kind": "ConfigMap", "name": "absent"}}),
        )
        done = run("smtpprobe", "try", "-f", str(path), "--output", "json")
    assert done.returncode == 3
    ready = next(c for c in json.loads(done.stdout)["status"]["conditions"] if c["type"] == "Ready")
    assert "spec.tls.caRef" in ready["message"]

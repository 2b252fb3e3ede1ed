"""What the operator may do: the table in rbac.txt is computed from the rendered chart, and its size is bounded."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from charts import one, render

TABLE = Path(__file__).with_name("rbac.txt")
READING = {"get", "list", "watch"}


class Triple(NamedTuple):
    group: str
    resource: str
    verb: str


def granted(objects: list[dict[str, Any]]) -> tuple[int, set[Triple]]:
    """Rules and triples of all roles that are bound to the operator's service account."""
    bindings = [each for each in objects if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    names = {binding["roleRef"]["name"] for binding in bindings}
    roles = [each for each in objects if each["kind"] in {"Role", "ClusterRole"} and each["metadata"]["name"] in names]
    rules = [rule for role in roles for rule in role["rules"]]
    triples = {
        Triple(group or "core", resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    return len(rules), triples


def table(triples: set[Triple]) -> str:
    rows = sorted(triples)
    widths = [max(len(row[column]) for row in rows) + 2 for column in (0, 1)]
    lines = [
        f"{row.group:{widths[0]}}{row.resource:{widths[1]}}{row.verb}{'' if row.verb in READING else ' !'}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def test_table() -> None:
    """The grant at default values is the table in rbac.txt: who changes one changes the other, and it is seen."""
    _, triples = granted(render())
    assert table(triples) == TABLE.read_text().split("\n", 1)[1]


def test_bounds() -> None:
    """At most 6 rules, 12 triples, 5 of them writing; nothing about Secrets, no wildcard, no way to more rights."""
    rules, triples = granted(render())
    assert rules <= 6
    assert len(triples) <= 12
    assert sum(each.verb not in READING for each in triples) <= 5
    assert not {each.resource for each in triples} & {"secrets", "serviceaccounts/token", "pods/exec", "pods/log"}
    assert not any("*" in each for each in triples)
    assert not {each.verb for each in triples} & {"bind", "escalate", "impersonate"}


def test_no_grant_to_people_by_default() -> None:
    """At default values no role is aggregated into view, edit or admin."""
    for each in render():
        assert not any("aggregate-to" in label for label in each["metadata"].get("labels", {}))


def test_aggregated_roles() -> None:
    """Where asked for: view reads, edit writes SmtpProbes; nobody gets the status or anything else to write."""
    objects = render("--set", "rbac.aggregateToView=true,rbac.aggregateToEdit=true")
    view, edit = one(objects, "ClusterRole", "-view")["rules"], one(objects, "ClusterRole", "-edit")["rules"]
    assert [rule["resources"] for rule in (*view, *edit)] == [["smtpprobes"], ["smtpprobes"]]
    assert set(view[0]["verbs"]) == READING
    assert set(edit[0]["verbs"]) == {"create", "update", "patch", "delete", "deletecollection"}
    assert granted(objects) == granted(render())


@pytest.mark.parametrize("kind", ["ClusterRole", "ClusterRoleBinding"])
def test_namespaced_grant(kind: str) -> None:
    """With watchNamespaces the same grant is given in those namespaces only, and nothing cluster-wide."""
    objects = render("--set", "watchNamespaces={shop,billing}")
    assert not [each for each in objects if each["kind"] == kind]
    roles = [each for each in objects if each["kind"] == "Role"]
    assert sorted(role["metadata"]["namespace"] for role in roles) == ["billing", "shop"]
    assert granted(objects)[1] == granted(render())[1]


def test_binding_names_the_pods_account() -> None:
    """The grant goes to the account that the operator's pod runs under."""
    for arguments in (
        (),
        ("--set", "serviceAccount.name=given"),
        ("--set", "serviceAccount.create=false,serviceAccount.name=given"),
    ):
        objects = render(*arguments)
        account = one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
        (subject,) = one(objects, "ClusterRoleBinding")["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": account, "namespace": "smtpprobe-system"}
        accounts = [each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"]
        assert accounts == ([] if "serviceAccount.create=false" in str(arguments) else [account])

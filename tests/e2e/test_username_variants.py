"""``sender`` where the server wants ``sender@domain``: from a Secret to the form that works, as the server counts logins."""

from __future__ import annotations

from collections.abc import Callable

from cluster_facts import Logins
from conftest import condition
from shop import Shop

USER, FULL = "user53", "user53@corp.test"
ENVELOPE = {"from": "orders@corp.test", "to": ["postmaster@corp.test"]}


def test_the_form_of_the_user_name_that_works(make_shop: Callable[[], Shop]) -> None:
    """With tryUsernameVariants one run says UsernameFormat and the form; the server saw one refusal and one success; the
    later run logs in once more at most; the Secret in that form passes."""
    shop = make_shop()
    mail = shop.facts.mail
    assert mail
    mark = mail.mark()
    shop.secret("login", USER, mail.users[FULL])
    spec = {"credentialsSecretRef": {"name": "login"}, "envelope": ENVELOPE}
    shop.probe("orders", "submission", "starttls", tryUsernameVariants=True, **spec)
    status = shop.judged("orders")
    ready = condition(status, "Ready")
    assert ready["reason"] == "UsernameFormat"
    assert FULL in ready["message"]
    assert FULL in status["advice"]["text"]
    assert mail.logins(USER, since=mark) == Logins(accepted=0, refused=1)
    assert mail.logins(FULL, since=mark) == Logins(accepted=1, refused=0)
    assert (status["auth"]["refused"], status["auth"]["variant"]["username"]) == (1, FULL)
    status = shop.run_now("orders", "again")
    assert condition(status, "Ready")["reason"] == "UsernameFormat"
    assert mail.logins(USER, since=mark).refused == 2
    assert mail.logins(FULL, since=mark).accepted == 1
    assert status["auth"]["paused"] is True
    shop.secret("login", FULL, mail.users[FULL])
    shop.probe("orders", "submission", "starttls", tryUsernameVariants=False, **spec)
    assert condition(shop.judged("orders"), "Ready")["reason"] == "Succeeded"

"""Each story of verdicts.yaml, applied to a real cluster with real mail servers, reads its truth in the status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shop import Shop

STORIES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "verdicts.yaml").read_text())


@pytest.fixture(scope="module")
def stories(make_shop: Callable[[], Shop]) -> Shop:
    """All stories applied at once: the cluster works on them while the tests read."""
    shop = make_shop()
    for name, story in STORIES.items():
        spec = dict(story.get("spec", {}))
        match story.get("login"):
            case str(user):
                spec["credentialsSecretRef"] = {"name": shop.login(user)}
            case [username, password]:
                shop.secret(name, username, password)
                spec["credentialsSecretRef"] = {"name": name}
        shop.probe(name, story["service"], story["mode"], **spec)
    return shop


@pytest.mark.parametrize("name", STORIES)
def test_story_reads_its_reason_stage_and_owner_in_the_status(stories: Shop, name: str) -> None:
    """A person who applies the manifest reads how far the session came, why it stopped and who must act."""
    story = STORIES[name]
    status = stories.judged(name, within=240)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["reason"], ready["status"]) == (story["reason"], story.get("ready", "False")), ready["message"]
    assert status.get("failedStage") == story.get("stage"), ready["message"]
    assert status.get("advice", {}).get("owner") == story.get("owner")
    said = status["locations"][0].get("evidence", {}).get("notes", ())
    assert set(story.get("notes", ())) <= set(said)
    assert ready["message"]
    assert story.get("advice", "") in status.get("advice", {}).get("text", "")
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions == conditions | story.get("conditions", {})

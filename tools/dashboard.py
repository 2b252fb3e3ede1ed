"""Build the Grafana dashboard of the chart: ``python tools/dashboard.py`` writes it, ``--check`` compares.

The classic JSON model (schemaVersion 41), which every Grafana since 10 loads. What is shown is in dashboard_rows.py;
layout, ids and variables are made here, so that a panel is added by one entry.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dashboard_rows import ROWS, Panel, Query, mappings

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "charts" / "smtpprobe-operator" / "files" / "dashboards" / "smtpprobe.json"
SCHEMA_VERSION = 41
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


def target(query: Query, letter: str) -> Json:
    """One query as Grafana stores it."""
    made: Json = {"refId": letter, "datasource": DATASOURCE, "editorMode": "code", "expr": query.expr}
    if query.table:
        return {**made, "format": "table", "instant": True, "range": False}
    return {**made, "legendFormat": query.legend or "__auto", "instant": False, "range": True}


def panel(spec: Panel, number: int, x: int, y: int) -> Json:
    """One panel as Grafana stores it."""
    defaults: Json = {
        "unit": spec.unit,
        "color": {"mode": "palette-classic" if spec.kind == "timeseries" else "thresholds"},
        "mappings": mappings(spec.words) if spec.words else [],
        "thresholds": {"mode": "absolute", "steps": [{"color": name, "value": at} for name, at in spec.steps]},
        "custom": spec.custom or {},
    }
    return {
        "id": number,
        "type": spec.kind,
        "title": spec.title,
        "description": spec.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": spec.width, "h": spec.height},
        "fieldConfig": {"defaults": defaults, "overrides": list(spec.overrides)},
        "options": spec.options or {},
        "targets": [target(query, chr(ord("A") + index)) for index, query in enumerate(spec.queries)],
        "transformations": list(spec.transformations),
    }


def layout() -> list[Json]:
    """All panels, row by row, from left to right."""
    made: list[Json] = []
    y = 0
    for title, panels in ROWS:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        y += 1
        x = tallest = 0
        for spec in panels:
            if x + spec.width > 24:
                x, y, tallest = 0, y + tallest, 0
            made.append(panel(spec, len(made) + 1, x, y))
            x, tallest = x + spec.width, max(tallest, spec.height)
        y += tallest
    return made


def variable(name: str, label: str, query: str) -> Json:
    """Make a variable with the values of a label; several may be chosen."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> Json:
    """Put the whole dashboard together."""
    return {
        "uid": "smtpprobe",
        "title": "SmtpProbe",
        "description": "Whether mail can be sent from where the applications run; if not, why and from which address.",
        "tags": ["smtpprobe", "smtp", "mail"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                    "refresh": 1,
                },
                variable("namespace", "Namespace", "label_values(smtpprobe_condition, namespace)"),
                variable("name", "SmtpProbe", 'label_values(smtpprobe_condition{namespace=~"$namespace"}, name)'),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": layout(),
    }


def main() -> int:
    """Write the file, or compare it where ``--check`` is given: 1 where it is not what would be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(dashboard(), indent=2) + "\n"
    if parser.parse_args().check:
        if TARGET.read_text() == text:
            return 0
        print(
            f"{TARGET.relative_to(ROOT)} is not what tools/dashboard.py builds: run python tools/dashboard.py",
            file=sys.stderr,
        )
        return 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

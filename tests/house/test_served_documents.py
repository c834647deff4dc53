"""What is written of metrics and of the HTTP API is what there is."""

import json
import re
from pathlib import Path

import pytest

from preheat import CacheWarmupService
from preheat._figures import FIGURES
from preheat.http import create_app
from preheat.http.operations import OPERATIONS

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "grafana/preheat.json").read_text())
NAMES = {figure.name: figure for figure in FIGURES}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
QUERIES += [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_of_the_dashboard_exists_with_its_labels(query):
    named = re.findall(r"(preheat_\w+)(?:\{([^}]*)\})?", query)
    assert named
    for name, selectors in named:
        assert name in NAMES
        labels = set(re.findall(r'(\w+)=~?"', selectors)) - {"job", "instance"}
        assert labels <= set(NAMES[name].labels)


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_legends_name_labels_that_there_are(panel):
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"instance"}
        known = {label for name in re.findall(r"preheat_\w+", target["expr"]) for label in NAMES[name].labels}
        assert named <= known


def test_panels_do_not_overlap():
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


def test_the_page_of_metrics_has_every_figure_with_its_kind_labels_and_help():
    page = (DOCS / "reference/metrics.md").read_text()
    rows = [
        f"| `{f.name}` | {f.kind} | {', '.join(f'`{label}`' for label in f.labels) or '-'} | {f.help} |"
        for f in FIGURES
    ]
    assert [row for row in rows if row not in page] == []
    assert set(re.findall(r"^\| `(preheat_\w+)`", page, re.MULTILINE)) == set(NAMES)


def test_the_page_of_the_api_has_every_operation_with_its_summary(tmp_path):
    page = (DOCS / "reference/http.md").read_text()
    rows = [f"| `{o.method} {o.path}` | {o.summary} |" for o in OPERATIONS]
    assert [row for row in rows if row not in page] == []
    app = create_app(CacheWarmupService(state_dir=str(tmp_path)))
    assert {path for _, path in re.findall(r"^\| `(GET|POST) (\S+)`", page, re.MULTILINE)} == {
        route.path for route in app.routes
    }


def test_the_alerts_of_the_how_to_name_metrics_that_exist():
    page = (DOCS / "how-to/monitor.md").read_text()
    assert set(re.findall(r"preheat_[a-z_]+", page)) <= set(NAMES)

"""Every values key is in the schema with a description and in the chart's README; nothing else is."""

import json
import os
import unittest

import yaml

import charts
from charts import each

BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
# Handed over to natsway or Kubernetes as they are: their keys are described elsewhere.
VERBATIM = "config"
CONFIG = "natsway's own configuration, handed over word for word; see docs/configuration.md for its keys."


def properties(node, path=()):
    """(path, schema) of each documented key; maps that are somebody else's are leaves."""
    for key, child in node.get("properties", {}).items():
        here = path + (key,)
        if key != VERBATIM and child.get("properties"):
            yield from properties(child, here)
        elif key != "global":
            yield here, child


def leaves(value, schema, path=()):
    for key, child in value.items():
        below = schema.get("properties", {}).get(key, {})
        if isinstance(child, dict) and below.get("properties") and key != VERBATIM:
            yield from leaves(child, below, path + (key,))
        else:
            yield path + (key,)


def closed(node, path=()):
    """Paths of our own maps that would let a typo through."""
    if node.get("properties") and node.get("additionalProperties") is not False:
        yield ".".join(path)
    for key, child in node.get("properties", {}).items():
        if key != VERBATIM:
            yield from closed(child, path + (key,))


def default(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return "unset"
        values = values[key]
    text = yaml.safe_dump(values, default_flow_style=True, width=10_000, sort_keys=False)
    return "`" + text.removesuffix("...\n").strip() + "`"


def table(chart):
    values, rows = charts.values(chart), ["| key | default | meaning |", "| --- | --- | --- |"]
    for path, schema in properties(charts.schema(chart)):
        rows.append(f"| `{'.'.join(path)}` | {default(values, path)} | {schema.get('description', '')} |".replace("||", "\\|\\|"))
    return "\n".join(rows) + "\n"


class Documented(unittest.TestCase):
    def subjects(self):
        for chart in ("natsway", "natsway-sidecar"):
            yield chart, chart, charts.schema(chart)

    @each
    def test_every_key_has_a_schema_and_every_schema_a_description(self, chart, schema):
        described = dict(properties(schema))
        self.assertLessEqual(set(leaves(charts.values(chart), schema)), set(described))
        self.assertEqual([p for p, s in described.items() if not s.get("description")], [])

    @each
    def test_the_configuration_is_checked_by_natsways_own_schema(self, chart, schema):
        own = json.loads((charts.ROOT / "docs" / "natsway.schema.json").read_text())
        # Of the dialect of the file that it stands in.
        own.pop("$schema")
        own["description"] = CONFIG
        if os.environ.get("BLESS"):
            schema["properties"][VERBATIM] = own
            path = charts.CHARTS / chart / "values.schema.json"
            path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
        self.assertEqual(schema["properties"][VERBATIM], own, "run with BLESS=1")

    @each
    def test_our_own_maps_are_closed(self, _chart, schema):
        self.assertEqual(list(closed(schema)), [])

    @each
    def test_the_readme_lists_them_all(self, chart, _schema):
        readme = charts.CHARTS / chart / "README.md"
        text = readme.read_text()
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        wanted = before + BEGIN + table(chart) + END + after
        if os.environ.get("BLESS"):
            readme.write_text(wanted)
            text = wanted
        self.assertEqual(text, wanted, "run with BLESS=1")


if __name__ == "__main__":
    unittest.main()

"""The facts of every protocol in the JSON report conform to its schema."""

from __future__ import annotations

import importlib
import json
from typing import Any

import jsonschema
import pytest

from analyzer.messages import to_json
from analyzer.protocols import PROTOCOLS, ProtocolModule, dhcp6, dissect_as
from analyzer.reports import json as report
from analyzer.reports.document import encode

SCHEMA = report.schema()
NAMES = [module.NAME for module in PROTOCOLS]


def facts_of(module: ProtocolModule) -> list[Any]:
    """The facts of a protocol's example heads, as in the report."""
    name = "dhcp6" if module is dhcp6 else module.NAME.replace("-", "_")
    examples = importlib.import_module(f"tests.protocols.test_{name}").EXAMPLES
    return [json.loads(encode(to_json(dissect_as(module, head).facts))) for head in examples]


def test_schema_describes_every_protocol() -> None:
    described = {name.removesuffix("_facts") for name in SCHEMA["$defs"] if name.endswith("_facts")}
    assert described == {*NAMES, "ftp-data"}


@pytest.mark.parametrize("module", PROTOCOLS, ids=NAMES)
def test_facts_of_the_examples_conform_to_the_schema(module: ProtocolModule) -> None:
    name = f"{module.NAME}_facts"
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})
    for facts in facts_of(module):
        validator.validate(facts)
        assert set(facts) <= set(SCHEMA["$defs"][name]["properties"])

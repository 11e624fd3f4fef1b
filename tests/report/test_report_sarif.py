"""SARIF as code scanning takes it: the parts of the standard that are used, and a place for every result."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import jsonschema
from report_scene import scene

from controller.errors import ExitCode
from controller.reconcile.values import Reason, Source
from controller.report import github, junit, sarif
from controller.report.formats import TextStyle
from controller.report.model import FleetFailure

LOOK = TextStyle()
FAILURE = FleetFailure(
    "overseas", "no answer", "check the network", ExitCode.ERROR, Source("desired_state/over seas/fleet.yaml", 3)
)

# Of SARIF 2.1.0 (OASIS), what a log of this program has; closed, so that nothing else slips in.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/run"}},
    },
    "additionalProperties": False,
    "$defs": {
        "message": {  # 3.11
            "type": "object",
            "required": ["text"],
            "properties": {"text": {"type": "string", "minLength": 1}},
            "additionalProperties": False,
        },
        "run": {  # 3.14, 3.18, 3.19, 3.49
            "type": "object",
            "required": ["tool", "results"],
            "additionalProperties": False,
            "properties": {
                "properties": {  # 3.8, a bag; 3.14.1 gives a run one as well
                    "type": "object",
                    "required": ["observedAt"],
                    "additionalProperties": False,
                    "properties": {"observedAt": {"type": "object", "additionalProperties": {"format": "date-time"}}},
                },
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "additionalProperties": False,
                    "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name", "rules"],
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string"},
                                "rules": {
                                    "type": "array",
                                    "uniqueItems": True,
                                    "items": {
                                        "type": "object",
                                        "required": ["id", "name", "shortDescription", "help"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "id": {"type": "string", "minLength": 1},
                                            "name": {"pattern": "^[A-Za-z]+$"},
                                            "shortDescription": {"$ref": "#/$defs/message"},
                                            "help": {  # 3.12.3: text is needed where there is Markdown
                                                "type": "object",
                                                "required": ["text", "markdown"],
                                                "additionalProperties": False,
                                                "properties": {
                                                    "text": {"type": "string", "minLength": 1},
                                                    "markdown": {"type": "string", "minLength": 1},
                                                },
                                            },
                                        },
                                    },
                                },
                            },
                        }
                    },
                },
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
        },
        "result": {  # 3.27; code scanning takes none without a place
            "type": "object",
            "required": ["ruleId", "level", "message", "locations", "partialFingerprints"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string", "minLength": 1},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/$defs/message"},
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},  # 3.27.17
                "locations": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["physicalLocation"],
                        "additionalProperties": False,
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "required": ["artifactLocation", "region"],
                                "additionalProperties": False,
                                "properties": {
                                    "artifactLocation": {
                                        "type": "object",
                                        "required": ["uri"],
                                        "additionalProperties": False,
                                        # Relative to the repository: neither absolute nor upwards, and no blanks.
                                        "properties": {"uri": {"pattern": r"^(?!/|\.\.)[A-Za-z0-9_.~%/-]+$"}},
                                    },
                                    "region": {
                                        "type": "object",
                                        "required": ["startLine"],
                                        "additionalProperties": False,
                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                    },
                                },
                            }
                        },
                    },
                },
            },
        },
    },
}


def test_a_log_is_what_code_scanning_takes(make):
    for report in (make.report(failures=(FAILURE,)), scene(failures=(FAILURE,)), make.report(make.fleet([]))):
        log = json.loads(sarif.render_drift(report, LOOK))
        jsonschema.validate(log, SARIF)
        [run] = log["runs"]
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert {result["ruleId"] for result in run["results"]} == set(rules)
        assert len(rules) == len(set(rules))


def test_every_reason_has_a_meaning_and_every_rule_the_help_that_code_scanning_shows():
    assert all(reason.meaning.endswith(".") for reason in Reason)
    [run] = json.loads(sarif.render_drift(scene(), LOOK))["runs"]
    helps = {rule["id"]: rule["help"]["text"] for rule in run["tool"]["driver"]["rules"]}
    assert helps["NoCertificate"].startswith("No certificate is attached to the thing. Provision it")
    assert all(text.endswith("certfleet explain THING shows why of one device.") for text in helps.values())


def test_an_alert_is_the_same_when_other_devices_are_behind_it(make):
    def keys(report):
        [run] = json.loads(sarif.render_drift(report, LOOK))["runs"]
        return [result["partialFingerprints"]["certfleet/v1"] for result in run["results"]]

    whole, less = keys(make.report()), keys(make.report(make.fleet(make.devices()[2:])))
    assert whole == less
    assert len(set(whole)) == len(whole)


def test_what_a_person_has_decided_is_a_note_and_no_failure():
    [run] = json.loads(sarif.render_drift(scene(), LOOK))["runs"]
    levels = {result["ruleId"]: result["level"] for result in run["results"]}
    assert (levels["Suspended"], levels["NoCertificate"]) == ("note", "error")
    cases = ET.fromstring(junit.render_drift(scene(), LOOK)).iter("testcase")
    results = {case.get("name"): [child.tag for child in case] for case in cases}
    assert results["paint-0"] == ["skipped"]
    assert results["gateway-b-100"] == ["failure"]
    assert "::notice file=desired_state/factory/policies.yaml,line=110,col=1,title=Suspended::" in github.render_drift(
        scene(), LOOK
    )


def test_every_result_stands_on_the_line_of_what_it_departs_from(make):
    log = json.loads(sarif.render_drift(make.report(failures=(FAILURE,)), LOOK))
    places = {result["ruleId"]: result["locations"][0]["physicalLocation"] for result in log["runs"][0]["results"]}
    aged, failed = places["AgeExceeded"], places["FleetFailed"]
    assert (aged["artifactLocation"]["uri"], aged["region"]["startLine"]) == (
        "desired_state/factory/policies.yaml",
        14,
    )
    assert (failed["artifactLocation"]["uri"], failed["region"]["startLine"]) == (
        "desired_state/over%20seas/fleet.yaml",
        3,
    )

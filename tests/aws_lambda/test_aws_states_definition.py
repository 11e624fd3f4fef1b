"""The definitions held to AWS's documentation, for what moto's interpreter does not enforce; and what the stack gets.

In AWS's guide to Step Functions: service-quotas, state-map-distributed, concepts-error-handling, connect-to-resource,
input-output-contextobject, sfn-best-practices (https://docs.aws.amazon.com/step-functions/latest/dg/).
"""

from __future__ import annotations

import json
import re

import pytest
from aws_lambda_machines import definitions

from backend import synth
from backend.infrastructure import reconcile_machine
from controller import aws_states

MAX_PAYLOAD, MAX_EVENTS, MAX_NAME = 262_144, 25_000, 80  # bytes of a state's input or output; of a history; characters
MAX_CHILDREN_AT_ONCE = 10_000
CONTEXT = {"$$.Execution.Name", "$$.Execution.StartTime", "$$.Map.Item.Value", "$$.Task.Token"}
# What Lambda answers without having run anything: to be tried again.
TRANSIENT = {
    "Lambda.ClientExecutionTimeoutException", "Lambda.ServiceException", "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
}  # fmt: skip
OF_A_STATE = {"Type", "ResultPath", "Catch", "Next", "End"}
FIELDS = {
    "Task": OF_A_STATE | {"Resource", "Parameters", "ResultSelector", "TimeoutSeconds", "Retry"},
    "Map": OF_A_STATE | {"ItemsPath", "ItemSelector", "MaxConcurrency", "ToleratedFailurePercentage", "ItemProcessor"},
    "Choice": {"Type", "Choices", "Default"},
    "Wait": {"Type", "SecondsPath", "Next"},
    "Pass": {"Type", "Result", "ResultPath", "Next", "End"},
    "Fail": {"Type", "Error", "Cause"},
    "Succeed": {"Type"},
}


def graphs():
    """Every set of states that knows no state outside: both machines, and the children of the map."""
    for name, text in definitions().items():
        whole = json.loads(text)
        yield name, whole
        for state in whole["States"].values():
            if state["Type"] == "Map":
                yield f"{name}, child", state["ItemProcessor"]


GRAPHS = dict(graphs())
STATES = {(graph, name): state for graph, whole in GRAPHS.items() for name, state in whole["States"].items()}
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
MAPS = {name: state for name, state in STATES.items() if state["Type"] == "Map"}


def following(state):
    ways = [state.get("Next"), state.get("Default")]
    ways += [one["Next"] for one in (*state.get("Choices", ()), *state.get("Catch", ()))]
    return {way for way in ways if way}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_state_is_reached_by_its_name_and_every_way_ends(name):
    graph = GRAPHS[name]
    states = graph["States"]
    assert all(len(one) <= MAX_NAME for one in states)
    reached, waiting = set(), {graph["StartAt"]}
    while waiting:
        one = waiting.pop()
        reached.add(one)
        waiting |= following(states[one]) - reached
    assert reached == set(states)
    ends = {one for one, state in states.items() if state.get("End") or state["Type"] in {"Fail", "Succeed"}}
    assert ends
    assert all(following(states[one]) for one in set(states) - ends)


def test_states_have_the_fields_of_their_type_and_no_others():
    for name, state in STATES.items():
        assert set(state) <= FIELDS[state["Type"]], name


def test_only_the_machine_itself_has_a_time_limit_and_it_outlasts_what_it_runs():
    for name, graph in GRAPHS.items():
        assert ("TimeoutSeconds" in graph) is not name.endswith("child"), "an ItemProcessor knows none"
    assert reconcile_machine.RUN_SECONDS > aws_states.MAX_ROUNDS * 15 * 60
    assert GRAPHS["ReconcileQuestion"]["TimeoutSeconds"] > reconcile_machine.QUESTION_SECONDS
    for name, task in TASKS.items():
        assert task["TimeoutSeconds"] > 15 * 60, f"{name} must not be given up while its function may live"


def test_a_task_is_tried_again_where_nothing_has_run_and_states_all_stands_alone_and_last():
    for name, task in TASKS.items():
        assert set(task["Retry"][0]["ErrorEquals"]) > TRANSIENT, name
        for rules in (task["Retry"], task.get("Catch", [])):
            for number, rule in enumerate(rules):
                if "States.ALL" in rule["ErrorEquals"]:
                    assert (rule["ErrorEquals"], number) == (["States.ALL"], len(rules) - 1), name
        for rule in task["Retry"]:
            assert rule["IntervalSeconds"] >= 1
            assert rule.get("BackoffRate", 2.0) >= 1.0
            assert 1 <= rule.get("MaxDelaySeconds", 1) <= 31_622_400
            assert rule.get("MaxDelaySeconds", 10**9) > rule["IntervalSeconds"]
            assert rule.get("JitterStrategy", "FULL") in {"FULL", "NONE"}


def test_a_child_that_fails_fails_no_other_and_the_summary_comes_whatever_the_map_does():
    [(name, fleets)] = MAPS.items()
    assert fleets["ToleratedFailurePercentage"] == 100, "AWS ends the map, and the other children, at the first failure"
    assert isinstance(fleets["ToleratedFailurePercentage"], float), "moto's interpreter reads no integer there"
    assert fleets["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert 1 <= fleets["MaxConcurrency"] <= MAX_CHILDREN_AT_ONCE
    assert {one["Next"] for one in fleets["Catch"]} == {fleets["Next"]} == {"Summary"}, name
    [child] = [task for (graph, _), task in TASKS.items() if graph.endswith("child")]
    assert {one["Next"] for one in child["Catch"]} == {"Told"}


def test_what_is_passed_on_is_names_and_the_results_of_children_are_dropped():
    [fleets] = MAPS.values()
    assert fleets["ResultPath"] is None
    [told] = [state for (graph, name), state in STATES.items() if graph.endswith("child") and state.get("End")]
    assert told["Result"] == {}, "an array of all children's output must fit as well"
    room = MAX_PAYLOAD - aws_states.MAX_NAMES_BYTES
    assert room > 50_000, "for the bundle's version and the error of a map, beside the names"
    texts = json.dumps([task["Parameters"] for task in TASKS.values()])
    assert not re.search(r'"\$"', texts), "no task is given the whole state"


def test_the_history_of_a_child_has_room_for_all_its_rounds():
    events = 5 + 2 + 2  # of a task that succeeds, a choice and a wait
    again = 3  # of a task that is tried once more: scheduled, started, failed
    assert aws_states.MAX_ROUNDS * (events + again) < MAX_EVENTS


def test_the_context_object_has_all_that_is_taken_from_it():
    for name, text in definitions().items():
        assert set(re.findall(r"\$\$[\w.]+", text)) <= CONTEXT, name


def test_who_waits_hands_on_its_token_and_ends_by_itself_if_nobody_answers():
    [task] = [task for task in TASKS.values() if task["Resource"].endswith(".waitForTaskToken")]
    payload = task["Parameters"]["Payload"]
    assert payload["token.$"] == "$$.Task.Token"
    assert payload["seconds"] == task["TimeoutSeconds"] == reconcile_machine.QUESTION_SECONDS
    assert {"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": "Expired"} in task["Catch"]


def test_every_task_of_the_machines_is_one_that_the_function_has():
    asked = {task["Parameters"]["Payload"]["task"] for task in TASKS.values()}
    assert asked == set(aws_states.TASKS)
    for task in TASKS.values():
        assert task["Resource"].startswith("arn:aws:states:::lambda:invoke")


# What the context variable adds to the stack ----------------------------------------------------------


@pytest.fixture(scope="module")
def added():
    return json.loads(synth.MACHINE.read_text())["Resources"]


def of_type(added, kind):
    return [resource["Properties"] for resource in added.values() if resource["Type"] == kind]


@pytest.mark.unmeasured
def test_what_is_checked_in_is_what_the_variable_adds_and_cdk_nag_finds_nothing():
    with_it = synth.synthesise(synth.MACHINE_CONTEXT)
    base = json.loads(synth.TEMPLATE.read_text())
    for section, entries in json.loads(synth.RECONCILE.read_text()).items():
        base[section] |= entries
    assert synth.MACHINE.read_text() == synth.as_text(synth.differences(with_it, base)), "run: python -m backend.synth"


def test_the_single_function_stays_what_it_is_without_the_variable():
    text = synth.RECONCILE.read_text()
    assert "aws_states" not in text
    assert "StepFunctions" not in text


def test_the_schedule_starts_the_machine_and_there_is_room_for_every_child(added):
    [rule] = of_type(added, "AWS::Events::Rule")
    assert "FleetsMachine" in json.dumps(rule["Targets"][0]["Arn"])
    functions = {one["Handler"]: one for one in of_type(added, "AWS::Lambda::Function")}
    worker = functions["controller.aws_states.handler"]
    [fleets] = MAPS.values()
    assert worker["ReservedConcurrentExecutions"] > fleets["MaxConcurrency"] == 20


def test_no_machine_logs_what_it_passes_on_for_a_token_is_a_secret(added):
    machines = of_type(added, "AWS::StepFunctions::StateMachine")
    assert [
        (m["LoggingConfiguration"]["Level"], m["LoggingConfiguration"]["IncludeExecutionData"]) for m in machines
    ] == [("ALL", False)] * 2
    assert not [m for m in machines if m.get("StateMachineType", "STANDARD") != "STANDARD"]


def test_people_answer_through_a_url_that_asks_iam_who_they_are_and_no_other_way(added):
    [url] = of_type(added, "AWS::Lambda::Url")
    assert url["AuthType"] == "AWS_IAM"
    managed = of_type(added, "AWS::IAM::ManagedPolicy")
    [approvers] = [one for one in managed if not one["Description"].startswith("Part of the policies for")]
    assert {one["Action"]: one["Condition"] for one in approvers["PolicyDocument"]["Statement"]} == {
        "lambda:InvokeFunction": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
        "lambda:InvokeFunctionUrl": {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
    }


def test_plans_that_were_refused_are_kept_for_a_week(added):
    [bucket] = of_type(added, "AWS::S3::Bucket")
    assert {"ExpirationInDays": 7, "Prefix": "reconcile/plans/", "Status": "Enabled"} in [
        {key: one[key] for key in ("ExpirationInDays", "Prefix", "Status") if key in one}
        for one in bucket["LifecycleConfiguration"]["Rules"]
    ]

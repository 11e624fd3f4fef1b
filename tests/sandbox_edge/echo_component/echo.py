"""A component for the tests: does over real Greengrass IPC what messages on its topic tell it."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import (
    ConfigurationValidityReport,
    ConfigurationValidityStatus,
    GreengrassCoreIPCError,
)

THING = os.environ["AWS_IOT_THING_NAME"]
client = GreengrassCoreIPCClientV2()


def say(kind, **details):
    payload = json.dumps({"pid": os.getpid(), **details}).encode()
    client.publish_to_iot_core(topic_name=f"echo/{THING}/{kind}", qos="0", payload=payload)


def told(event):
    order = json.loads(event.message.payload)
    threading.Thread(target=obey, args=(order,)).start()


def systemctl(order):
    done = subprocess.run(["systemctl", *order["arguments"]], check=False)
    say("systemctl", code=done.returncode)


def configuration(order):
    answer = client.get_configuration(key_path=order.get("path"), component_name=order.get("component"))
    say("configuration", value=answer.value)


def orders_in_files():
    """For a device that hears nothing by MQTT: told by a file, answers by a file."""
    while True:
        try:
            order = json.loads(Path("order").read_text())
        except FileNotFoundError:
            time.sleep(0.05)
            continue
        Path("order").unlink()
        try:
            ACTIONS[order["do"]](order)
            outcome = {"name": "done"}
        except GreengrassCoreIPCError as error:
            outcome = {"name": type(error).__name__, "message": error.message}
        Path("outcome.new").write_text(json.dumps(outcome))
        Path("outcome.new").rename("outcome")


def renew(order):
    def subscribe():
        return client.subscribe_to_iot_core(topic_name=order["topic"], qos="1", on_stream_event=lambda _: None)[1]

    before = subscribe()
    for step in (subscribe, before.close) if order["beside"] else (before.close, subscribe):
        step()


ACTIONS = {
    "crash": lambda _: os._exit(3),
    "finish": lambda _: os._exit(0),
    "systemctl": systemctl,
    "configuration": configuration,
    "publish": lambda order: client.publish_to_iot_core(topic_name=order["topic"], qos="1", payload=b"x"),
    "subscribe": lambda order: client.subscribe_to_iot_core(
        topic_name=order["topic"], qos="1", on_stream_event=lambda _: None
    ),
    "renew": renew,
    "state": lambda order: client.update_state(state=order["state"]),
    "watch": lambda _: client.subscribe_to_configuration_update(key_path=[], on_stream_event=changed),
    "unsupported": lambda _: client.list_components(),
}


def obey(order):
    try:
        ACTIONS[order["do"]](order)
    except GreengrassCoreIPCError as error:
        say("error", name=type(error).__name__, message=error.message)
    else:
        say("done", do=order["do"])


def changed(event):
    say("changed", keyPath=event.configuration_update_event.key_path)


def validate(event):
    proposal = event.validate_configuration_update_event
    wrong = proposal.configuration.get("greeting") == "rude"
    if proposal.configuration.get("greeting") == "silent":
        return
    report = ConfigurationValidityReport(
        status=ConfigurationValidityStatus.REJECTED if wrong else ConfigurationValidityStatus.ACCEPTED,
        deployment_id=proposal.deployment_id,
        message="be polite" if wrong else None,
    )
    threading.Thread(
        target=client.send_configuration_validity_report, kwargs={"configuration_validity_report": report}
    ).start()


sys.stdout.write(f"hello from {THING}\n")
client.subscribe_to_iot_core(topic_name=f"echo/{THING}/do", qos="1", on_stream_event=told)
if "--validate" in sys.argv:
    client.subscribe_to_validate_configuration_updates(on_stream_event=validate)
threading.Thread(target=orders_in_files, daemon=True).start()
say("ready", arguments=sys.argv[1:], folder=str(Path.cwd()))
threading.Event().wait()

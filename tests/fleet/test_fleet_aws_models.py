"""What botocore knows of AWS's services in our sessions, and what sessions share."""

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from controller.fleet.aws import MODELS, new_session
from controller.fleet.aws_answers import MEMBERS
from controller.fleet.aws_models import CUT

WHOLE = Loader()


def shapes_of(operation):
    """Every shape that an operation leads to, with its members."""
    found, waiting = {}, [operation.input_shape, operation.output_shape, *operation.error_shapes]
    while waiting:
        shape = waiting.pop()
        if shape is not None and shape.name not in found:
            found[shape.name] = shape.type_name, shape.serialization, shape.metadata
            inner = [*getattr(shape, "members", {}).values(), *(getattr(shape, one, None) for one in ("key", "value"))]
            waiting += [*inner, getattr(shape, "member", None)]
    return found


@pytest.mark.parametrize("service", sorted(CUT))
def test_what_is_left_of_a_model_is_what_we_call_and_all_that_it_leads_to(service):
    whole = ServiceModel(WHOLE.load_service_model(service, "service-2"), service)
    cut = ServiceModel(MODELS.load_service_model(service, "service-2"), service)
    ours = set(whole.operation_names) & set(MEMBERS)
    assert ours
    assert set(cut.operation_names) == ours
    assert cut.metadata == whole.metadata
    for name in ours:
        assert shapes_of(cut.operation_model(name)) == shapes_of(whole.operation_model(name))
        assert cut.operation_model(name).http == whole.operation_model(name).http


def test_what_one_session_listens_to_no_other_one_hears():
    one, other, heard = new_session(), new_session(), []
    one.register("before-sign", lambda **_: heard.append("one"))
    later = new_session()
    for session in (other, later):
        session.get_component("event_emitter").emit("before-sign.iot.ListThings", request=None)
    assert not heard
    one.get_component("event_emitter").emit("before-sign.iot.ListThings", request=None)
    assert heard == ["one"]

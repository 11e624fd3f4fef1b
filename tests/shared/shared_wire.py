"""Calls of AWS's SDK to a cloud of the same process, without a wire.

Two fifths of what a call costs in a test are sockets, and HTTP written and read on both sides. Requests are written
and signed, answers parsed as ever. Whatever stands between (a faulty proxy, another process) is asked over the wire,
and so is a cloud that has stopped.
"""

import functools
import weakref
from urllib.parse import urlsplit

from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from sandbox.stack.clients import answered

_CLOUDS = weakref.WeakValueDictionary()  # by host and port


def answer_without_wire(cloud):
    """From now on, until it stops."""
    _replace_send()
    _CLOUDS[cloud.address] = cloud


@functools.cache
def _replace_send():
    send = URLLib3Session.send

    def without_wire(self, request):
        cloud = _CLOUDS.get(urlsplit(request.url).netloc)
        if cloud is None or cloud._stopping.is_set():
            return send(self, request)
        try:
            answer = answered(cloud, request)
        except Exception as error:  # of the server's thread, which hangs up then
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        return answer or send(self, request)

    URLLib3Session.send = without_wire

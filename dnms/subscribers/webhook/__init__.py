"""Posts each event of chosen kinds to a URL: CloudEvents 1.0 in JSON, signed as Standard Webhooks.

    [webhook]
    url = "https://example.net/dnms"
    secret = "webhook.secret"     # a file beside this one: whsec_…, one a line; or DNMS_WEBHOOK_SECRET
    kinds = ["prefix", "address.allocated"]
    timeout = 10

Any 2xx says that it is done; after anything else it is posted again, with the same `webhook-id`. `message` makes what
is sent, `endpoint` sends it.
"""

from __future__ import annotations

from dnms.subscribers.caller import Calling
from dnms.subscribers.webhook.endpoint import Endpoint

SUBSCRIBER = Calling(
    name="webhook",
    about="a signed HTTP request to a URL at each event of chosen kinds",
    caller=Endpoint.of,
    takes=frozenset({"config"}),
)

"""The relay: on a link that has no Subnet Agent it offers one that is elsewhere, and passes the nodes of the link on.

`relay` wires it together, `upstream` are the agents that it knows, `passing` is one node's connection. It has neither
the log nor anything of the site but a certificate of its own, and reads nothing that a node and its agent say. What it
says of a node is in `dnms.wire.relaying`. `python -m dnms.agents.relay`.
"""

from dnms.agents.relay.relay import RelayError, RelaySettings, run

__all__ = ["RelayError", "RelaySettings", "run"]

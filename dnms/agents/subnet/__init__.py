"""The Subnet Agent: answers the nodes of one link out of its folds, and writes what was decided and seen to the log.

`agent` wires it together; `books` are its folds and writers, `offers` and `sessions` its listeners, `served` is one
node's session. `python -m dnms.agents.subnet`.
"""

from dnms.agents.subnet.agent import SubnetAgentError, SubnetSettings, run
from dnms.agents.subnet.loop import new_event_loop

__all__ = ["SubnetAgentError", "SubnetSettings", "new_event_loop", "run"]

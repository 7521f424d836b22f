"""The Node Agent: finds a Subnet Agent from fe80::, registers what the kernel has, and applies what it is assigned.

`agent` is its life, `search` how it finds an agent, `application` what it does to the kernel, `giving_back` how
it is undone.
`python -m dnms.agents.node`.
"""

from dnms.agents.node.agent import NodeAgentError, NodeSettings, run
from dnms.agents.node.giving_back import give_back
from dnms.agents.node.identity import machine
from dnms.domain.identity import iaid_of

__all__ = ["NodeAgentError", "NodeSettings", "give_back", "iaid_of", "machine", "run"]

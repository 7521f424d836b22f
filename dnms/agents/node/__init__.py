"""The Node Agent: finds a Subnet Agent from fe80::, registers what the kernel has, and applies what it is assigned.

`agent` is its life, `search` how it finds an agent, `application` what it does to the kernel.
`python -m dnms.agents.node`.
"""

from dnms.agents.node.agent import NodeAgentError, NodeSettings, run

__all__ = ["NodeAgentError", "NodeSettings", "run"]

"""The protocols without I/O: bytes and time in, bytes and events out.

A node searches with `discovery.Discovery`, then speaks through a `node_session.NodeSession` over the
`node_state.NodeState` that it keeps. An agent answers with `answering.Answering`, and holds an
`agent_session.AgentSession` a connection. What they say is in `messages`; what follows what is in `exchanges` and
`phases`, as tables. docs/protocol.md is the full text.
"""

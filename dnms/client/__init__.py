"""The API's client: what `dnms` itself asks with, for programs in Python. Answers are of the type that is asked for.

    from dnms.client import connect
    from dnms.projections.nodes.queries import NodeRow

    async with connect("http://127.0.0.1:61080", token) as api:
        async for node in api.rows("/nodes", NodeRow, {"name": "phone-*"}):
            print(node.name, node.last_seen)

It raises ApiError for what the API answers, and httpx.TransportError where it does not answer.
"""

from dnms.client.connection import ApiError, Connection, Page, Place, Problem, Refused, connect, http_client, quoted

__all__ = ["ApiError", "Connection", "Page", "Place", "Problem", "Refused", "connect", "http_client", "quoted"]

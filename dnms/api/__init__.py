"""The REST API: questions are answered from the views, and the plan and the ledgers are changed through committers.

Every answer says how far the log is folded in it, in its field `position` and in the header `DNMS-Position`. Errors are
problem documents (RFC 9457). The bus is never read to answer a question.
"""

from dnms.api.app import create_app
from dnms.api.inventory import resume
from dnms.api.ledgers import Ledgers
from dnms.api.server import PortInUse, serve_api

__all__ = ["Ledgers", "PortInUse", "create_app", "resume", "serve_api"]

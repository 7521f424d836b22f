"""Shadow mode: what a Subnet Agent would answer the clients that another server serves, and in what that differs.

It hears the link and sends nothing. Its log is a fork, so that it decides as an agent would and writes nothing.
"""

from dnms.agents.shadow.exchanges import Found
from dnms.agents.shadow.run import ShadowError, ShadowSettings, Summary, run

__all__ = ["Found", "ShadowError", "ShadowSettings", "Summary", "run"]

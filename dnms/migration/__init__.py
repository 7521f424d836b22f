"""What other DHCP servers have, as a plan and as leases: their configurations and their lease files, read and weighed.

Each server has readers of its own, that make a `Configuration` or `Lease`s of texts. Nothing is dropped silently: what
cannot be carried is `Left`, with its place and the reason. `plan` makes the document of a plan of a configuration.
"""

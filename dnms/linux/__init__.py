"""The kernel of this machine: netlink, DAD and ARP, sysctls, sockets for discovery, DNS and time servers, and applying
a plan.

Everything acts on the network namespace of the thread that calls it. Sockets are opened when an object is made and not
later, so an object stays in the namespace in which it was made. Netlink's sockets and messages are our own: small, and
at home on every event loop. `requests` makes the messages, `messages` reads them.
"""

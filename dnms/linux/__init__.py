"""The kernel of this machine: netlink, DAD and ARP, sysctls, resolv.conf, sockets for discovery, and applying a plan.

Everything acts on the network namespace of the thread that calls it. Sockets are opened when an object is made and not
later, so an object stays in the namespace in which it was made. This is the only package that imports pyroute2, and it
takes from it the formats of rtnetlink's messages; the sockets are our own, which makes them work on every event loop.
"""

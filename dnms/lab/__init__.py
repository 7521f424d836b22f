"""A network of namespaces on this machine, for the demo, the tests and the benchmarks.

`outside` checks what is needed and starts `inside` in namespaces of its own; there a scenario builds a `network`, has
the `nursery` fork real agents into it, and judges by what each namespace's `kernel` says. To add a scenario, add its
file to `scenarios`, with a coroutine function `run` of a `Lab` that is made of `steps` and ends in a `verdict`, and its
line here.
"""

from __future__ import annotations

from dnms.lab.outside import main, run

SCENARIOS = {
    "agents": "Subnet Agents are killed and started in turns, down to a single one, while nodes come and go",
    "basic": "nodes with SLAAC addresses join a subnet and are given managed ones",
    "crash": "a node, a Subnet Agent and the bus are killed in the middle of joins, and started again",
    "cut": "the link between the bus and the Subnet Agents is cut for 20 s, while nodes join and others renew",
    "delegation": "a prefix of an ISP goes down three levels to containers, is released, and renumbered under pings",
    "disk": "the disk of the bus is full for 20 s, while nodes join",
    "drift": "somebody else changes what nodes were given, again and again, and all of it is put back",
    "duplicate": "strangers on the link use addresses that the hash gives: their nodes find out and get others",
    "handover": "Subnet Agents and Node Agents leave and come back, the plan changes, and no node loses what it has",
    "lockout": "all nodes are given gateways that lead nowhere, and go back to what they had",
    "mixed": "nodes with agents, clients of DHCPv6 and DHCPv4, SLAAC hosts and a rogue router share a link",
    "outage": "the bus is away for 30 s, the link in two: agents go on by themselves, and two nodes get one address",
    "outage-strict": "the same for 20 s on a strict subnet: nobody gets what another has",
    "reboot": "while no Subnet Agent is there, links go down and nodes lose power, and get back what they had",
    "relay": "the link has relays alone: one is killed, then an agent behind them, and no node loses what it has",
    "renumber": "the subnet gets other prefixes and pools: nodes have both addresses, and lose no packet",
    "takeover": "nodes that configured themselves are observed, then taken over, while somebody is logged in on each",
    "waves": "a wrong plan goes out in waves and stops at the first node, a right one reaches all",
}
"""Every scenario: its name, which is its file's too (with _ for -), and what happens in it."""

__all__ = ["SCENARIOS", "main", "run"]

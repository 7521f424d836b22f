"""A machine that has, on the link, what another was given: real kernels, real agents, a log in memory."""

from __future__ import annotations

from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressBlocked, AddressWithdrawn
from dnms.events.ip import family, format_address
from dnms.events.recorded import Event
from tests.netns.agents.conftest import Network

BOTH = ("2001:db8:5:", "192.0.2.")


def events(network: Network) -> list[Event]:
    return [event for record in network.log.records for event in codec.decode(record.data).events]


async def test_who_was_given_what_another_machine_has_is_moved(network: Network) -> None:
    """As container hosts have it: on an interface of its own, and the kernel answers for it on every link."""
    network.serve()
    network.live()
    await network.until(lambda: network.has(*BOTH))
    given = [event for event in events(network) if isinstance(event, AddressAllocated)]
    (taken,) = [event.address for event in given if family(event.address) == 4]
    machine = network.another("host")
    machine.ip(
        [
            "link add name inside type veth peer name cable",
            "link set dev cable up",
            "link set dev inside up",
            f"address add {format_address(taken)}/32 dev inside",
        ]
    )
    network.live(machine, name="host", state=network.path / "other")
    await network.until(lambda: any(isinstance(event, AddressBlocked) for event in events(network)))
    (withdrawn,) = [event for event in events(network) if isinstance(event, AddressWithdrawn)]
    (blocked,) = [event for event in events(network) if isinstance(event, AddressBlocked)]
    assert (withdrawn.address, withdrawn.client) == (taken, given[0].client)
    assert blocked.address == taken
    assert blocked.client != withdrawn.client
    await network.until(lambda: not network.has(f"{format_address(taken)}/") and network.has(*BOTH))
    assert format_address(taken) in machine.run("ip", "-o", "address", "show", "dev", "inside")

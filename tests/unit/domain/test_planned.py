"""Addresses that the plan reserves: in the document, in the plan, and in the ledger that adopts it."""

from __future__ import annotations

import msgspec
import pytest

from dnms.domain import ledger_dump
from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.forecast import foresee
from dnms.domain.holding import MAX_HOLDS
from dnms.domain.identity import iaid_of
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.plan_difference import differences
from dnms.domain.planned import ANY_IAID, claims
from dnms.events.address import AddressAllocated, AddressHeld, AddressReleased, AddressUnheld, AddressWithdrawn
from dnms.events.ip import format_address, parse_address
from dnms.events.plan import PlanAdopted, ReservationDefined, ReservationWithdrawn
from dnms.events.recorded import Event
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    ApplyPlan,
    ClaimReserved,
    HoldAddress,
    JoinAddresses,
    ReleaseAddress,
    UnholdAddress,
)
from tests.unit.domain.clerk import Clerk, client
from tests.unit.domain.conftest import PLAN

ETH0 = iaid_of("eth0")
SIX, FOUR = "2001:db8:1:1::77", "192.0.2.7"


def reserving(*reservations: tuple[str, int], rest: str = "") -> str:
    return PLAN + "".join(
        f'[[reservation]]\naddress = "{address}"\nnode = "{client(number).hex()}"\n{rest}'
        for address, number in reservations
    )


def kept(clerk: Clerk) -> dict[str, tuple[bytes, int]]:
    return {format_address(address): who for address, who in clerk.ledger.held.items()}


def ask(clerk: Clerk, number: int, kind: int, iaid: int = ETH0) -> list[str]:
    """What the client has, once it has asked."""
    clerk.ask(AllocateAddress(client=client(number), iaid=iaid, family=4 if kind == 4 else 6))
    return [format_address(lease.address) for lease in clerk.ledger.leases_of(client(number), iaid, kind)]


# -- the document, and the plan


def test_it_is_written_as_it_was_read() -> None:
    plan = from_toml(reserving((SIX, 1), (FOUR, 2)))
    [six, four] = plan.reservations
    assert (six.subnet, six.address, six.client, six.interface) == ("office", parse_address(SIX), client(1), "eth0")
    assert (four.address, four.client) == (parse_address(FOUR), client(2))
    assert from_builtins(to_builtins(plan)) == plan


def test_a_hardware_address_and_a_duid_are_written_as_whose_they_are() -> None:
    mac, duid = "02:00:5e:10:00:01", "00:04:" + ":".join(["ab"] * 16)
    document = to_builtins(from_toml(PLAN)) | {
        "reservation": [{"address": SIX, "hardware": mac.upper()}, {"address": FOUR, "duid": duid.replace(":", "")}]
    }
    named: list[str] = []

    def client_of(who: str) -> bytes:
        named.append(who)
        return client(len(named))

    plan = from_builtins(document, client_of=client_of)
    assert named == [f"00:03:00:01:{mac}", duid]
    assert [(each.client, each.interface) for each in plan.reservations] == [(client(1), "*"), (client(2), "*")]
    assert from_builtins(to_builtins(plan)) == plan


def test_who_is_named_is_looked_up() -> None:
    document = to_builtins(from_toml(reserving((SIX, 1))))
    document["reservation"][0]["node"] = "printer"
    [found] = from_builtins(document, client_of={"printer": client(7)}.__getitem__).reservations
    assert found.client == client(7)
    with pytest.raises(DocumentError, match=r"'printer' is no client id.* - at `\$.reservation\[0\].node`"):
        from_builtins(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (reserving((SIX, 1), rest='subnet = "lab"\n'), "there is no subnet 'lab'"),
        (reserving(("2001:db8:9::1", 1)), "no subnets have 2001:db8:9::1; name one - at `$.reservation[0].subnet`"),
        (reserving(("192.0.2.99", 1), rest='subnet = "office"\n'), "no pool of subnet 'office' has 192.0.2.99"),
        (reserving(("192.0.2.1", 1)), "nobody may be given 192.0.2.1"),
        (reserving((SIX, 1), (SIX, 2)), f"{SIX} is reserved twice in subnet 'office'"),
        (
            reserving(*((f"2001:db8:1:1::{n}", 1) for n in range(1, MAX_HOLDS + 2))),
            f"more than {MAX_HOLDS} IPv6 addresses for one interface of a node",
        ),
        (
            reserving(("2001:db8:1:1::7", 1), ("2001:db8:1:2::7", 1))
            .replace('"2001:db8:1:1::/64"', '"2001:db8:1::/48"')
            .replace('range = "2001:db8:1::/48"', 'range = "2001:db8:1::/48"\nprefix_per_host = true'),
            "2001:db8:1:2::7 is not in 2001:db8:1:1::/64, where the plan has its host",
        ),
        (reserving((SIX, 1), rest='interface = "a-name-that-is-too-long"\n'), "interface"),
        (
            reserving((SIX, 1), rest='duid = "00:03:00:01:02:00:5e:10:00:01"\n'),
            "found node and duid - at `$.reservation[0]",
        ),
        (reserving((SIX, 1)).replace(f'node = "{client(1).hex()}"', 'duid = "printer"'), "is no DUID; expected"),
        (
            reserving((SIX, 1)).replace(f'node = "{client(1).hex()}"', 'hardware = "01:00:5e:00:00:01"'),
            "is no hardware address; expected 6 bytes in hex",
        ),
        (
            reserving((SIX, 1), rest='interface = "eth0"\n').replace("node =", "hardware ="),
            "leave its name out - at `$.reservation[0].interface`",
        ),
        (reserving((SIX, 1)).replace("node =", "colour ="), "unknown field `colour`"),
        (reserving((SIX, 1), rest='colour = "red"\n'), "known are address, node, duid, hardware, interface, subnet"),
    ],
)
def test_what_is_wrong_says_where_and_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises((DocumentError, Refused)) as error:
        PlanState().decide(from_toml(text), at=0, entropy=bytes(32))
    assert said in str(error.value)


def test_two_subnets_with_the_address_have_to_be_told_apart() -> None:
    twice = (
        '[[realm]]\nname = "r2"\n[[realm]]\nname = "default"\n'
        + PLAN
        + (
            '[[subnet]]\nname = "other"\nrealm = "r2"\nprefixes = ["192.0.2.0/28"]\n'
            f'[[reservation]]\naddress = "{FOUR}"\nnode = "{client(1).hex()}"\n'
        )
    )
    with pytest.raises(DocumentError, match=r"2 subnets have 192.0.2.7; name one - at `\$.reservation\[0\].subnet`"):
        from_toml(twice)


def applied(state: PlanState, text: str) -> tuple[Event, ...]:
    events = state.decide(from_toml(text), at=0, entropy=bytes(32))
    for event in events:
        state.evolve(event, at=0, position=state.position + 1)
    return events


def test_a_plan_has_them_until_it_has_not() -> None:
    state = PlanState()
    applied(state, reserving((SIX, 1), (FOUR, 2)))
    assert len(state.for_subnet("office").reservations) == 2
    again = PlanState()
    again.load(state.document(), state.position)
    assert again.for_subnet("office") == state.for_subnet("office")
    assert applied(state, reserving((SIX, 1), (FOUR, 2))) == ()
    changed = applied(state, reserving((SIX, 3)))
    assert [type(event) for event in changed] == [ReservationWithdrawn, ReservationDefined]
    assert [each.client for each in state.for_subnet("office").reservations] == [client(3)]


def test_what_changes_is_named() -> None:
    before, after = from_toml(reserving((SIX, 1), (FOUR, 2))), from_toml(reserving((SIX, 3)))
    found = {(one.part, one.name, one.change) for one in differences(before, after)}
    assert found == {
        ("reservation", f"{SIX} in office", "changed"),
        ("reservation", f"{FOUR} in office", "withdrawn"),
    }


# -- the ledger


def test_it_is_given_to_its_client_and_to_nobody_else(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1), (FOUR, 1)))
    assert kept(clerk) == {SIX: (client(1), ETH0), FOUR: (client(1), ETH0)}
    assert ask(clerk, 1, 6) == [SIX]
    assert ask(clerk, 1, 4) == [FOUR]
    others = [ask(clerk, number, 4)[0] for number in range(2, 14)]
    assert FOUR not in others
    assert clerk.refused(AllocateAddress(client=client(99), iaid=ETH0, family=4)) == "exhausted"


def test_whose_lease_is_on_it_loses_that(clerk: Clerk) -> None:
    theirs = clerk.allocate(2)
    text = format_address(theirs.address)
    events = clerk.adopt(reserving((text, 1)))
    assert [type(event) for event in events] == [PlanAdopted, AddressWithdrawn, AddressHeld]
    assert kept(clerk) == {text: (client(1), ETH0)}
    assert ask(clerk, 2, 6, iaid=1) != [text]
    promised = clerk.ledger.remembered.promised(theirs.address, client(2))
    assert ask(clerk, 1, 6) != [text]  # who had it may not have heard of that yet
    clerk.ask(AllocateAddress(client=client(1), iaid=ETH0, family=6), at=promised // 1_000_000 + 1)
    assert clerk.ledger.leases[theirs.address].client == client(1)


def test_who_has_it_keeps_it_and_is_not_asked_for_more(clerk: Clerk) -> None:
    [had] = ask(clerk, 1, 6)
    events = clerk.adopt(reserving((had, 1)))
    assert [type(event) for event in events] == [PlanAdopted, AddressHeld]
    assert ask(clerk, 1, 6) == [had]


def test_it_wins_over_an_operators_and_ends_with_the_plan(clerk: Clerk) -> None:
    for number, address in ((2, SIX), (1, FOUR)):
        kind = 4 if address == FOUR else 6
        clerk.ask(
            HoldAddress(client=client(number), iaid=ETH0, family=4 if kind == 4 else 6, address=parse_address(address))
        )
    clerk.adopt(reserving((SIX, 1), (FOUR, 1)))
    assert kept(clerk) == {SIX: (client(1), ETH0), FOUR: (client(1), ETH0)}
    assert clerk.ledger.holds[client(1), ETH0, 4] == (parse_address(FOUR),)
    for address in (SIX, FOUR):
        unhold = UnholdAddress(client=client(1), iaid=ETH0, address=parse_address(address))
        assert clerk.refused(unhold) == "planned"
    events = clerk.adopt(reserving((SIX, 3)))
    assert [type(event) for event in events[1:]] == [AddressUnheld, AddressUnheld, AddressHeld]
    assert kept(clerk) == {SIX: (client(3), ETH0)}
    clerk.adopt(PLAN)
    assert not clerk.ledger.held
    assert not clerk.ledger.planned


def test_who_is_joined_into_another_node_leaves_what_the_plan_keeps_for_it(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1)))
    assert not clerk.ask(JoinAddresses(client=client(1), iaid=ETH0, into=client(2), into_iaid=ETH0))
    assert kept(clerk) == {SIX: (client(1), ETH0)}


def test_an_adoption_that_was_cut_short_goes_on(clerk: Clerk) -> None:
    """Another agent adopted the plan, and was killed before it had done what follows from that."""
    clerk.adopt(reserving((FOUR, 1)))
    state = PlanState()
    applied(state, reserving((SIX, 1)))
    plan = msgspec.structs.replace(state.for_subnet("office"), position=clerk.position + 5)
    clerk.ledger.evolve(PlanAdopted(plan=plan), at=0, position=clerk.position + 1)
    events = clerk.ask(AdoptPlan(plan=plan))
    assert [type(event) for event in events] == [AddressUnheld, AddressHeld]
    assert kept(clerk) == {SIX: (client(1), ETH0)}
    assert not clerk.ask(AdoptPlan(plan=plan))


ANY = 'interface = "*"\n'


def claim(clerk: Clerk, number: int, iaid: int, *, kind: int = 6, of: int = 1) -> list[type[Event]]:
    """What happens when a client asks that may be the one for which it is reserved."""
    events = clerk.ask(
        ClaimReserved(client=client(number), iaid=iaid, family=4 if kind == 4 else 6, reserved_for=client(of))
    )
    return [type(event) for event in events]


def test_what_is_for_any_interface_is_for_the_one_that_asks_first(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1), (FOUR, 1), rest=ANY))
    assert kept(clerk) == {SIX: (client(1), ANY_IAID), FOUR: (client(1), ANY_IAID)}
    assert SIX not in ask(clerk, 2, 6)
    assert claim(clerk, 1, 7) == [AddressUnheld, AddressHeld]
    assert kept(clerk) == {SIX: (client(1), 7), FOUR: (client(1), ANY_IAID)}  # the families may have different ones
    assert ask(clerk, 1, 6, iaid=7) == [SIX]
    assert claim(clerk, 1, 7) == []
    assert list(claims(clerk.ledger, [client(1)], client(1), 8, 6)) == []  # it has it already
    assert len(list(claims(clerk.ledger, [client(1)], client(1), 8, 4))) == 1


def test_whoever_comes_last_by_the_hardware_address_has_what_is_reserved_for_that(clerk: Clerk) -> None:
    """The firmware of a machine, then its system: by another DUID, and by what the agent has seen of its hardware."""
    clerk.adopt(reserving((SIX, 1), rest=ANY))
    claim(clerk, 1, 7)
    assert ask(clerk, 1, 6, iaid=7) == [SIX]
    assert claim(clerk, 5, 3) == [AddressReleased, AddressUnheld, AddressHeld]
    assert ask(clerk, 5, 6, iaid=3) == [SIX]
    assert [each.address for each in clerk.ledger.leases_of(client(1), 7, 6)] == []
    # What was reserved stays so, whoever has come for it, and for as long as the plan says so.
    events = clerk.adopt(reserving((SIX, 1), (FOUR, 2), rest=ANY))
    assert [type(event) for event in events] == [PlanAdopted, AddressHeld]
    assert kept(clerk) == {SIX: (client(5), 3), FOUR: (client(2), ANY_IAID)}
    assert ask(clerk, 5, 6, iaid=3) == [SIX]
    events = clerk.adopt(reserving((SIX, 6), rest=ANY))
    assert [type(event) for event in events][:2] == [PlanAdopted, AddressWithdrawn]
    assert kept(clerk) == {SIX: (client(6), ANY_IAID)}
    clerk.adopt(PLAN)
    assert not clerk.ledger.held
    assert not clerk.ledger.planned


def test_nothing_is_claimed_that_is_reserved_for_an_interface_by_name_or_not_at_all(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1)))
    assert claim(clerk, 5, 3) == []
    assert claim(clerk, 5, 3, of=9) == []
    assert kept(clerk) == {SIX: (client(1), ETH0)}


def test_a_dump_has_who_has_come(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1), rest=ANY))
    claim(clerk, 5, 3)
    rest, buffers = ledger_dump.dump(clerk.ledger)
    again = Ledger(b"s" * 32)
    ledger_dump.load(again, rest, memoryview(b"".join(buffers)))
    assert (again.planned, again.held, again.holds) == (clerk.ledger.planned, clerk.ledger.held, clerk.ledger.holds)


def test_a_lease_of_it_ends_as_any_other(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1)))
    ask(clerk, 1, 6)
    clerk.ask(ReleaseAddress(client=client(1), iaid=ETH0, address=parse_address(SIX)))
    assert ask(clerk, 1, 6) == [SIX]


def test_a_draft_and_a_dump_have_them(clerk: Clerk) -> None:
    clerk.adopt(reserving((SIX, 1)))
    draft = clerk.ledger.draft()
    draft.evolve(AddressUnheld(address=parse_address(SIX), client=client(1), iaid=ETH0), at=0, position=0)
    assert not draft.planned
    assert parse_address(SIX) in clerk.ledger.planned
    rest, buffers = ledger_dump.dump(clerk.ledger)
    again = Ledger(b"s" * 32)
    ledger_dump.load(again, rest, memoryview(b"".join(buffers)))
    assert (again.planned, again.held, again.holds) == (clerk.ledger.planned, clerk.ledger.held, clerk.ledger.holds)


def test_a_forecast_says_whose_lease_would_end(clerk: Clerk) -> None:
    theirs = clerk.allocate(2)
    before, after = PlanState(), PlanState()
    applied(before, PLAN)
    applied(after, reserving((format_address(theirs.address), 1)))
    found = foresee(clerk.ledger, "office", before.for_subnet("office"), after.for_subnet("office"), groups={}, at=0)
    assert (found.leases, found.withdrawn, found.without) == (1, 1, 0)
    assert isinstance(theirs, AddressAllocated)
    assert not clerk.ledger.held


def test_a_request_has_no_name_of_a_node() -> None:
    """Names and DUIDs are personal; the plan's subject has neither."""
    assert set(ApplyPlan.__struct_fields__) >= {"reservations"}
    [reservation] = from_toml(reserving((SIX, 1))).reservations
    assert set(reservation.__struct_fields__) == {"subnet", "address", "client", "interface"}

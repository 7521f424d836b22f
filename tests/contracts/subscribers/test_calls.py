"""Calls for events: each at least once, in order for an entity, again until they are done or dead."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from dnms.bus.port import Doubled
from dnms.disk.subscriber_state import SubscriberStateError
from dnms.events.address import AddressReleased
from dnms.events.effect import Call, EffectCalled, EffectDead, EffectDelayed, Place
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.node import NodeArrived
from dnms.events.prefix import PrefixReleased
from dnms.subscribers import calling as calls_runner
from dnms.subscribers.caller import CallError, Happening, Kinds
from dnms.subscribers.calling import FIRST_PAUSE, LONGEST_PAUSE
from tests.contracts.subscribers.calls import HOUR, Ear, Frail, calling, killed, virtually
from tests.virtual_time import pass_time


def test_an_instance_begins_with_what_comes_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        await log.arrived(1, "old")
        async with calling(log, ear, tmp_path):
            second = await log.arrived(1, "lan")
            await pass_time(5)
        assert ear.positions() == [f"one:{second}.0"]
        assert log.of(EffectCalled)[0] == EffectCalled(position=1)
        assert log.of(EffectCalled)[-1].calls == (Call(sequence=second, waited=100_000),)
        third = await log.arrived(1, "lab")
        async with calling(log, ear, tmp_path):
            await pass_time(5)
        assert ear.positions() == [f"one:{second}.0", f"one:{third}.0"]

    virtually(work)


def test_one_that_begins_at_the_first_event_is_called_for_all(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(from_first=True)
        for number in range(20):
            await log.arrived(number, "lan")
        async with calling(log, ear, tmp_path):
            await pass_time(5)
        assert sorted(ear.positions()) == sorted(f"one:{number}.0" for number in range(1, 21))

    virtually(work)


@pytest.mark.parametrize("hours", [1, 23])
def test_an_ear_that_is_away_for_hours_misses_nothing_and_hears_in_order(tmp_path: Path, hours: int) -> None:
    async def work() -> None:
        log, ear, chance = Frail(), Ear(kinds=["node"]), random.Random(hours)
        written: list[int] = []
        async with calling(log, ear, tmp_path):
            ear.away = True
            for _ in range(60):
                written.append(await log.arrived(chance.randrange(6), "lan"))
                await pass_time(hours * HOUR / 60)
            assert not ear.heard
            ear.away = False
            await pass_time(LONGEST_PAUSE + 60)
        assert sorted(each.sequence for each in ear.heard) == written
        for client in range(6):
            its = [each.sequence for each in ear.heard if each.subject.endswith(f"{client:02x}")]
            assert its == sorted(its)
        assert not log.of(EffectDead)
        last = log.of(EffectCalled)[-1]
        assert (last.waiting, last.delayed) == (0, 0)
        assert last.position >= written[-1]

    virtually(work)


def test_after_a_day_a_call_is_a_dead_letter_and_what_is_behind_it_goes_on(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            ear.away = True
            first = await log.arrived(1, "lan")
            await pass_time(12 * HOUR)
            second = await log.arrived(1, "lab")
            await pass_time(13 * HOUR)  # 25 in all
            ear.away = False
            await pass_time(LONGEST_PAUSE + 60)
        [dead] = log.of(EffectDead)
        assert (dead.sequence, dead.index, dead.kind, dead.why) == (first, 0, "node.arrived", "deaf")
        assert dead.attempts > 100
        assert [each.sequence for each in ear.heard] == [second]
        async with calling(log, ear, tmp_path):  # and it is not called for again by itself
            await pass_time(60)
        assert [each.sequence for each in ear.heard] == [second]

    virtually(work)


def test_the_day_counts_over_restarts(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            ear.away = True
            await log.arrived(1, "lan")
            await pass_time(15 * HOUR)
        await pass_time(8 * HOUR)
        async with calling(log, ear, tmp_path):
            await pass_time(HOUR / 2)
            assert not log.of(EffectDead)
            await pass_time(HOUR)
        assert len(log.of(EffectDead)) == 1
        assert len(log.of(EffectDelayed)) == 1  # it is said once

    virtually(work)


@pytest.mark.parametrize("restarts", [False, True])
def test_dead_letters_are_called_for_again_when_an_operator_asks(tmp_path: Path, restarts: bool) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            ear.deaf = {bytes([1]) * 16, bytes([2]) * 16}
            dead = [await log.arrived(1, "lan"), await log.arrived(2, "lan"), await log.arrived(2, "lab")]
            await pass_time(50 * HOUR)
            assert sorted(each.sequence for each in log.of(EffectDead)) == dead
            last = await log.arrived(3, "lan")
            await pass_time(60)
            if not restarts:
                ear.deaf = set()
                await log.ask(Place(sequence=dead[1]), Place(sequence=last))  # the second one is none
                await pass_time(60)
        if restarts:
            await log.ask(Place(sequence=dead[1]))
            async with calling(log, ear, tmp_path):
                await pass_time(60)  # it fails again
            ear.deaf = set()
            async with calling(log, ear, tmp_path):
                await pass_time(LONGEST_PAUSE)
        assert [each.sequence for each in ear.heard] == [last, dead[1]]
        async with calling(log, ear, tmp_path):
            await log.ask()
            await pass_time(60)
        assert sorted(each.sequence for each in ear.heard) == [*dead, last]
        async with calling(log, ear, tmp_path):
            await log.ask()  # nothing is dead any more
            await pass_time(60)
        assert len(ear.heard) == 4
        assert log.of(EffectCalled)[-1].waiting == 0

    virtually(work)


def test_who_fails_holds_up_itself_alone(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path) as runner:
            ear.deaf = {bytes([1]) * 16}
            await log.arrived(1, "lan")
            behind = await log.arrived(1, "lab")
            others = [await log.arrived(number, "lan") for number in range(2, 50)]
            await pass_time(5)
            assert sorted(each.sequence for each in ear.heard) == others
            tried = {position for _, position in ear.tried}
            assert f"one:{behind}.0" not in tried
            assert runner.counts.failed["deaf"] >= 2
        said = log.of(EffectCalled)[-1]
        assert (said.waiting, said.delayed) == (2, 1)

    virtually(work)


def test_pauses_double_up_to_the_longest_and_are_drawn(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"], takes=0.0)
        async with calling(log, ear, tmp_path):
            ear.away = True
            await log.arrived(1, "lan")
            await pass_time(6 * HOUR)
        times = [at for at, _ in ear.tried]
        pauses = [after - before for before, after in pairwise(times)]
        for number, pause in enumerate(pauses):
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
            assert longest / 2 <= pause <= longest + 1e-3
        assert len({round(pause) for pause in pauses[12:]}) > 5

    virtually(work)


def test_who_wants_to_be_left_alone_is(tmp_path: Path) -> None:
    class Busy(Ear):
        async def call(self, happening: Happening) -> None:
            await super().call(happening)
            if len(self.tried) == 1:
                raise CallError("refused", "later", not_before=300)

    async def work() -> None:
        log, ear = Frail(), Busy(kinds=["node"])
        async with calling(log, ear, tmp_path):
            await log.arrived(1, "lan")
            await pass_time(400)
        assert len(ear.tried) == 2
        assert ear.tried[1][0] - ear.tried[0][0] >= 300

    virtually(work)


def test_a_defect_of_a_subscriber_is_a_call_that_failed(tmp_path: Path) -> None:
    class Broken(Ear):
        async def call(self, happening: Happening) -> None:
            await super().call(happening)
            if happening.subject.endswith("01"):
                raise ZeroDivisionError("a defect")

    async def work() -> None:
        log, ear = Frail(), Broken(kinds=["node"])
        async with calling(log, ear, tmp_path):
            await log.arrived(1, "lan")
            other = await log.arrived(2, "lan")
            await pass_time(10)
        assert ear.heard[-1].sequence == 1 or other in [each.sequence for each in ear.heard]
        [delayed] = log.of(EffectDelayed)
        assert (delayed.why, "a defect" in delayed.text) == ("defect", True)

    virtually(work)


def test_one_that_is_killed_calls_for_everything_and_again_for_what_it_had_not_written(tmp_path: Path) -> None:
    async def work() -> None:
        chance = random.Random(3)
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            pass
        written = []
        for number in range(30):
            written += [await log.arrived(chance.randrange(5), "lan") for _ in range(10)]
            ear.away = chance.random() < 0.3
            await killed(log, ear, tmp_path / str(number % 2), after=3 * chance.random())
        ear.away = False
        async with calling(log, ear, tmp_path):
            await pass_time(100)
        sequences = [each.sequence for each in ear.heard]
        assert set(sequences) == set(written)
        assert len(sequences) > len(written)  # the kills did come in between
        for client in range(5):
            its = [each.sequence for each in ear.heard if each.subject.endswith(f"{client:02x}")]
            first = list(dict.fromkeys(its))
            assert first == sorted(first)

    virtually(work)


def test_a_burst_is_recorded_in_few_commits(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"], takes=0.001)
        async with calling(log, ear, tmp_path):
            written = [await log.arrived(number % 200, "lan") for number in range(3_000)]
            await pass_time(30)
        assert len(ear.heard) == 3_000
        assert log.commits() < 12
        assert sorted(call.sequence for said in log.of(EffectCalled) for call in said.calls) == written

    virtually(work)


def test_a_log_that_is_longer_than_the_room_is_read_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_runner, "MAX_WAITING", 20)

    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            ear.away = True
            written = [await log.arrived(number % 7, "lan") for number in range(200)]
            await pass_time(HOUR)
            assert log.of(EffectCalled)[-1].waiting <= 20
            assert len({position for _, position in ear.tried}) <= 7
            ear.away = False
            await pass_time(2 * LONGEST_PAUSE)
        assert sorted(each.sequence for each in ear.heard) == written
        for client in range(7):
            its = [each.sequence for each in ear.heard if each.subject.endswith(f"{client:02x}")]
            assert its == sorted(its)

    virtually(work)


def test_a_log_that_takes_nothing_holds_no_call_up_and_hears_of_it_later(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            written = await log.arrived(1, "lan")
            log.cut = True
            await pass_time(60)
            assert [each.sequence for each in ear.heard] == [written]
            log.cut = False
            await pass_time(60)
        assert [call.sequence for said in log.of(EffectCalled) for call in said.calls] == [written]

    virtually(work)


def test_what_subscribers_did_is_followed_by_who_says_so_alone(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear, other = Frail(), Ear(), Ear(kinds=["effect"])
        async with calling(log, ear, tmp_path / "a"):
            delayed = EffectDelayed(sequence=1, kind="node.arrived", why="deaf", text="")
            await log.append("effect.firewall.gate", EffectCalled(position=1), delayed)
            await pass_time(60)
        assert not ear.heard
        assert log.commits() == 1  # and nothing it writes has it write more
        async with calling(log, other, tmp_path / "a"):
            sequence = await log.append("effect.firewall.gate", EffectCalled(position=1), delayed)
            await pass_time(60)
        assert other.positions()[-1:] == [f"one:{sequence}.1"]
        assert "effect.called" not in {each.kind for each in other.heard}

    virtually(work)


def test_the_same_instance_runs_once_on_a_machine(tmp_path: Path) -> None:
    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["node"])
        async with calling(log, ear, tmp_path):
            with pytest.raises(SubscriberStateError, match="another subscriber"):
                async with calling(log, Ear(), tmp_path):
                    pass

    virtually(work)


def test_the_same_instance_on_two_machines_is_noticed(tmp_path: Path) -> None:
    async def work() -> None:
        log = Frail()
        with pytest.raises(Doubled, match="another --instance"):
            async with (
                calling(log, Ear(kinds=["node"]), tmp_path / "a"),
                calling(log, Ear(kinds=["node"]), tmp_path / "b"),
            ):
                for number in range(20):
                    await log.arrived(number, "lan")
                    await pass_time(2)

    virtually(work)


def happening(event: object, subject: str = "dnms.example.ledger.lan") -> Happening:
    return Happening(log_id="one", sequence=1, index=0, subject=subject, time=0, stored_at=0, actor="a", event=event)  # type: ignore[arg-type]


def test_an_address_and_its_client_are_both_in_order() -> None:
    desk, phone, here = bytes([1]) * 16, bytes([2]) * 16, parse_address("192.0.2.1")
    ended = happening(AddressReleased(address=here, client=desk, iaid=1))
    others = happening(AddressReleased(address=here, client=phone, iaid=1))
    elsewhere = happening(AddressReleased(address=here, client=phone, iaid=1), "dnms.example.ledger.lab")
    assert set(ended.entities()) & set(others.entities())
    assert not set(ended.entities()) & set(elsewhere.entities())
    prefix = PrefixReleased(prefix=parse_prefix("2001:db8::/60"), client=desk, iaid=1, next_hop=here)
    assert set(happening(prefix).entities()) & set(ended.entities())
    assert happening(prefix).about == "2001:db8::/60"
    assert happening(EffectDead(sequence=1, kind="k", why="w", text="", attempts=1), "s").entities() == ("s",)
    assert happening(NodeArrived(client=desk, subnet="lan")).about == desk.hex()


def test_kinds_are_names_and_families() -> None:
    assert "prefix.delegated" in Kinds(["prefix"])
    assert "prefix.delegated" not in Kinds(["prefix.released", "address"])
    assert "effect.applied" not in Kinds()
    with pytest.raises(ValueError, match=r"no kind of events 'prefx'; expected a name .* of one: address"):
        Kinds(["address", "prefx"])


def test_lines_wait_for_no_longer_than_they_must(tmp_path: Path) -> None:
    """Two clients that share an address: the second waits for the first, and a third does not."""

    async def work() -> None:
        log, ear = Frail(), Ear(kinds=["address"])
        desk, phone, lamp = (bytes([number]) * 16 for number in (1, 2, 3))
        here, there = parse_address("192.0.2.1"), parse_address("192.0.2.2")
        async with calling(log, ear, tmp_path):
            ear.deaf = {desk}
            await log.append("ledger.lan", AddressReleased(address=here, client=desk, iaid=1))
            await log.append("ledger.lan", AddressReleased(address=here, client=phone, iaid=1))
            await log.append("ledger.lan", AddressReleased(address=there, client=lamp, iaid=1))
            await pass_time(5)
            assert [each.actor for each in ear.heard] == ["agent/east"]
            assert ear.heard[0].about == "192.0.2.2"
            ear.deaf = set()
            await pass_time(LONGEST_PAUSE)
        assert [each.about for each in ear.heard] == ["192.0.2.2", "192.0.2.1", "192.0.2.1"]
        await asyncio.sleep(0)

    virtually(work)

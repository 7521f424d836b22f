"""What a run of the lab comes to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dnms.lab.streams import EVERY

Count = float | list[int] | list[str] | dict[str, int]
"""What one scenario alone says, by the keys of its report."""


class Times(msgspec.Struct, frozen=True):
    """Milliseconds; null if not a single node was configured."""

    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """Nearest-rank percentiles."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(None, None, None)

        def rank(percent: int) -> float:
            return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * 1_000, 1)

        return cls(rank(50), rank(99), rank(100))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON that `dnms lab run` prints; the keys are an interface."""

    scenario: str
    nodes: int
    configured: int  # by what each namespace's kernel says
    duplicates: int  # addresses that two nodes hold, in the kernels or in the log
    subnet_agents: int
    events: int
    views_equal_log: bool
    time_to_configured_ms: Times  # from the start of a node's agent until its IPv6 address could be used
    time_beyond_dad_ms: Times  # what of that the kernel's DAD did not take, neither of fe80:: nor of the address
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return self.configured == self.nodes and self.duplicates == 0 and self.views_equal_log


class AgentsReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which Subnet Agents were killed while nodes came and went."""

    agents_killed: int  # how often one was, and started again
    nodes_came: int  # how often a Node Agent was started
    nodes_gave_back: int  # how often one took leave, and DNMS was taken off its node
    nodes_killed: int
    nodes_stopped: int  # how often one took leave, and its node kept what it had


class RenumberReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which the subnet got other prefixes."""

    pings: int  # to old addresses until they were drained, and to new ones
    lost_pings: int
    connections: int  # over TCP, one an address
    broken_connections: int
    both_valid_seconds: float  # for which every node could use its old and its new address at once

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and not self.lost_pings and not self.broken_connections and self.both_valid_seconds > 0


class MixedReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which machines with and without agents shared the link."""

    machines: int  # that wanted an address, those with agents too
    addresses: int  # that anybody had in the end, by the one list
    sources: dict[str, int]  # of how many of them which source said it
    rogues: list[str]  # routers that somebody is warned of
    listed: dict[str, dict[str, list[str]]] = {}  # machines, the addresses of their kernels, and who says of each

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and len(self.rogues) == 1


class OutageReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which agents went on while the log was away."""

    refused: int  # answers and families that nodes were told `outage` for
    moved: int  # nodes whose address of the outage was another's in the log
    journalled: int  # addresses that agents gave by their journals
    merged: int  # of those, what the log has as outage.granted
    double_held_ms: int  # for how long the kernels of two nodes let one address be used, in all

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and self.journalled == self.merged


class TakeoverReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which nodes that had configured themselves were taken over."""

    connections: int  # over TCP, to addresses that were to go, from before the take-over
    broken_connections: int
    strays_left: int  # addresses that were not assigned, when the connections had ended

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and self.connections > 0 and not self.broken_connections and not self.strays_left


class WavesReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which plans went out in waves."""

    canaries_lost: int  # nodes that were told the wrong plan, and went back to what they had
    lost: int  # nodes that could not be reached after it
    waves: list[int]  # of the right plan: how many nodes were told at once
    seconds_to_stop: float
    seconds_to_end: float

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        told = super().passed and self.canaries_lost == 1 and not self.lost
        return told and self.waves[:1] == [1] and sum(self.waves) == self.nodes


class LockoutReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which a change cut all nodes off."""

    rolled_back: int  # nodes that went back to what they had
    lost: int  # nodes that could not be reached afterwards
    seconds_to_roll_back: float  # until the last one had, from the change

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and self.rolled_back == self.nodes and not self.lost


class DriftReport(Report, frozen=True, kw_only=True):
    """What else is said of a run in which somebody else changed what was configured."""

    changes: int  # that were made by hand
    restored: int  # times that something was put back
    seconds_to_restore: float  # until the last one had all again, from the last change

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return super().passed and self.restored > 0


class DelegationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of the scenario `delegation`, whose network is another one; the keys are an interface."""

    scenario: str
    levels: int  # that delegate: ISP to border, border to laptop, laptop to VM
    reachable_both_ways: bool  # each container and the host beyond the ISP
    routes: int  # that DNMS has set on the three routers
    routes_left_after_release: int  # towards what the laptop gave back, and on it and below
    rules: int  # elements of the border's firewall that are of the laptop's prefix
    rules_left_after_release: int
    pings: int  # while the ISP changed the prefix
    lost_pings_at_renumber: int  # while both prefixes could be used
    lost_pings_at_cut: int  # with the old one cut at once
    seconds_to_reach: float  # from the ISP's grant to the first answered ping of a container
    seconds_to_come_back: float  # likewise, from the start of the laptop's agents after a reboot
    seconds_to_renumber: float  # from what the border was delegated until the last container can use it
    seconds_lost_at_cut: float  # without an answer
    events: int
    views_equal_log: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        left = self.routes_left_after_release + self.rules_left_after_release
        reached = self.reachable_both_ways and self.rules and not left
        return bool(reached) and self.lost_pings_at_renumber * EVERY < 1 and self.views_equal_log

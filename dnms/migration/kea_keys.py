"""Which keys of Kea's configuration are carried, which say nothing of addresses, and why the others are left."""

from __future__ import annotations

_LIFETIMES = {"valid-lifetime", "preferred-lifetime", "renew-timer", "rebind-timer"}

_BOOT = {"next-server", "boot-file-name"}

CARRIED: dict[str, frozenset[str]] = {
    "global": frozenset(
        {
            *_LIFETIMES,
            *_BOOT,
            "client-classes",
            "decline-probation-period",
            "interfaces-config",
            "option-data",
            "reservations",
            "shared-networks",
            "subnet4",
            "subnet6",
        }
    ),
    "network": frozenset({*_LIFETIMES, *_BOOT, "interface", "name", "option-data", "relay", "subnet4", "subnet6"}),
    "subnet": frozenset(
        {*_LIFETIMES, *_BOOT, "id", "interface", "option-data", "pd-pools", "pools", "relay", "reservations", "subnet"}
    ),
    "pool": frozenset({"option-data", "pool", "id", "pool-id"}),
    "pd-pool": frozenset(
        {"delegated-len", "excluded-prefix", "excluded-prefix-len", "option-data", "prefix", "prefix-len", "pool-id"}
    ),
    "reservation": frozenset(
        {
            "circuit-id",
            "client-id",
            "duid",
            "flex-id",
            "hostname",
            "hw-address",
            "ip-address",
            "ip-addresses",
            "option-data",
            "prefixes",
        }
    ),
}
"""By the part where they stand; what is said of each there is read."""

MEANINGLESS = frozenset(
    {
        "allocator",
        "authoritative",
        "cache-max-age",
        "cache-threshold",
        "calculate-tee-times",
        "comment",
        "control-socket",
        "control-sockets",
        "dhcp-queue-control",
        "dhcp4o6-port",
        "early-global-reservations-lookup",
        "echo-client-id",
        "expired-leases-processing",
        "host-reservation-identifiers",
        "ip-reservations-unique",
        "lease-database",
        "loggers",
        "mac-sources",
        "match-client-id",
        "multi-threading",
        "parked-packet-limit",
        "pd-allocator",
        "reservation-mode",
        "reservations-global",
        "reservations-in-subnet",
        "reservations-lookup-first",
        "reservations-out-of-pool",
        "sanity-checks",
        "server-id",
        "server-tag",
        "statistic-default-sample-age",
        "statistic-default-sample-count",
        "store-extended-info",
        "t1-percent",
        "t2-percent",
        "user-context",
    }
)
"""How Kea works, and nothing of what clients are given."""

_CLASSES = "make a [[group]] of its nodes, with ranges of its own"
_PXE = "write it as dhcp.boot of a [[group]] of its nodes"
_NAMES = "DNMS writes no names into a DNS of another"

WHY = {
    "boot-file-name": _PXE,
    "client-class": _CLASSES,
    "client-classes": _CLASSES,
    "config-control": "what is in a database is not read; write the configuration to a file (config-get)",
    "ddns-generated-prefix": _NAMES,
    "ddns-override-client-update": _NAMES,
    "ddns-override-no-update": _NAMES,
    "ddns-qualifying-suffix": _NAMES,
    "ddns-replace-client-name": _NAMES,
    "ddns-send-updates": _NAMES,
    "dhcp-ddns": _NAMES,
    "evaluate-additional-classes": _CLASSES,
    "hooks-libraries": "look what each does; programs of your own follow events: subscribers.md",
    "hosts-database": "what is in a database is not read; write its reservations into the file",
    "hosts-databases": "what is in a database is not read; write its reservations into the file",
    "max-valid-lifetime": "everybody has the valid lifetime",
    "min-valid-lifetime": "everybody has the valid lifetime",
    "max-preferred-lifetime": "everybody has the preferred lifetime",
    "min-preferred-lifetime": "everybody has the preferred lifetime",
    "next-server": _PXE,
    "option-def": "options that are not Kea's own are not told",
    "rapid-commit": "it is answered where a client asks for it",
    "relay-supplied-options": "what a relay supplies is not told",
    "require-client-classes": _CLASSES,
    "server-hostname": _PXE,
}

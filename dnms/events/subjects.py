"""Where things are written: one stream a site, and a subject a consistency boundary."""

from __future__ import annotations


def stream(site: str) -> str:
    """The stream that holds a site's log."""
    return f"DNMS_{site}"


def key_stream(site: str) -> str:
    """The stream beside the log that holds the keys of what is personal in it."""
    return f"DNMS-KEYS_{site}"


def key(site: str, client: bytes) -> str:
    """The key of one client; no subject of the log."""
    return f"dnms-keys.{site}.{client.hex()}"


def everything(site: str) -> str:
    """Matches every subject of a site."""
    return f"dnms.{site}.>"


def plan(site: str) -> str:
    """What operators want; written by CLI and API."""
    return f"dnms.{site}.plan"


def node(site: str, client: bytes) -> str:
    """Who there is: the shard of this client."""
    return f"dnms.{site}.node.{client[0]:02x}"


def nodes(site: str) -> str:
    """Matches all shards of nodes."""
    return f"dnms.{site}.node.*"


def ledger(site: str, subnet: str) -> str:
    """Leases of one subnet; written by that subnet's agents."""
    return f"dnms.{site}.ledger.{subnet}"


def seen(site: str, subnet: str, agent: str) -> str:
    """What one agent saw; written by that agent alone."""
    return f"dnms.{site}.seen.{subnet}.{agent}"


def effects(site: str, subscriber: str) -> str:
    """Matches what all instances of a subscriber did."""
    return f"dnms.{site}.effect.{subscriber}.*"


def effect(site: str, subscriber: str, instance: str) -> str:
    """What one instance of a subscriber did; written by that instance alone."""
    return f"dnms.{site}.effect.{subscriber}.{instance}"


def effect_asked(site: str, subscriber: str, instance: str) -> str:
    """What operators ask of one instance of a subscriber; written by the API."""
    return f"{effect(site, subscriber, instance)}.asked"

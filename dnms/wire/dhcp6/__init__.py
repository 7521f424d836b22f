"""DHCPv6 (RFC 8415): messages as bytes and as values, for servers and clients alike. No sockets, no time, no chance.

`codes` has the numbers, `messages` the messages and those of relays, `options` what a message carries, `associations`
what is in some of these, `values` what all options have in common. `client` is a requesting router: `exchanges` is its
table, `retransmission` its times, `held` what it has. `server` is a delegating router's end.
"""

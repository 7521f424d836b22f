"""DHCPv4 (RFC 2131): messages as bytes and as values, for servers and clients alike. No sockets, no time, no chance.

`codes` has the numbers, `messages` the messages, `options` what a message carries, `values` what options have in
common. `server` is a server's end: what a message asks, and what answers it, by which way.
"""

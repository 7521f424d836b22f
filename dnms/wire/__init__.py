"""The protocols without I/O: bytes and time in, bytes and events out. `discovery` (UDP) and `session` (TCP)."""

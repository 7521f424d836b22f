"""The log as a port (append, follow): in memory, on JetStream, and the embedded server.

The only importer of nats.
"""

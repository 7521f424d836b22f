"""Copies of the log outside of JetStream: one file of all of it, or segments that grow with it; and what they mend."""

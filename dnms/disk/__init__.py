"""Durable local state: files that are written whole or not at all, the site's directory, a node's own state,
a subscriber's, and a Subnet Agent's journal of an outage and snapshot of its folds."""

"""DNMS, the Distributed Network Management System.

Read the packages from the bottom up: `kit` (clock, logging), `events` (what can happen), `domain` (pure decisions),
`wire` (protocols without I/O), `bus` (the log), `disk` (durable local state), `linux` (the kernel), `projections`
(views), `agents` and `subscribers` (who acts), `api`, `lab` and `cli` (who asks). Imports point down only; a test
holds that.
"""

__version__ = "0.1.0"

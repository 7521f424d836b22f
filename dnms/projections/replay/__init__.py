"""The log once more, for those who look for a defect: no view, and nothing is stored.

`reading` steps through it, or has everything decided again; `states` is what an event is about, `condition` where to
stop, `wanted` what to show.
"""

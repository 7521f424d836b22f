"""Pure decisions: what an operator's plan means, who gets which address, what a node has to change. No I/O, no clock.

`aggregate` is the shape of every consistency boundary: a state that decides and evolves, and commits of decisions.
"""

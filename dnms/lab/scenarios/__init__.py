"""What can happen in the lab: a file a scenario, each with a coroutine function `run` of a `dnms.lab.lab.Lab`."""

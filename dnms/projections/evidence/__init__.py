"""Evidence: a file that says who had an address at a time, with the events that say so, signed by the site.

`document` is its form, `gathering` reads it out of the log, without the views, and `checking` compares it with the log.
"""

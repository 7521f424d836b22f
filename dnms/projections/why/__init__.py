"""Why something is so: from a route, an address, a prefix or an element of a set back to who brought it about.

`asked` reads what is asked about, `steps` goes back through the views.
"""

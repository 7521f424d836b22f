"""What can happen: every event, the requests that lead to them, the commit that holds both, and their bytes.

One file a family (`plan`, `node`, `address`, `seen`). To add an event, add a class to its family and to that family's
`EVENTS`, and run `make golden`, which writes its golden bytes. Nothing here does I/O.
"""

"""Trust by TUF. `trust` is the agent's side, `child` a process that reads the metadata and ends.

Nothing is imported here: the child is started anew for each update and needs no more than its own module.
"""

"""
How many edges one cloud carries: real drafts of the bundled pair, replayed against it by many edges at once.

`texts` records them, `session` replays one text, `load` is a process full of clients, `measure` what is seen
of a daemon (`daemons`) meanwhile, `__main__` the table; `tenants` is what one tenant notices of another.
"""

"""
How many edges one cloud carries: real drafts of the bundled pair, replayed against it by many edges at once.

`record` makes `texts` (`recording` starts it), `replay` is a process full of edges, `streamed` the rival
(transformers' batched generation, streamed; `messages` is its contract), `measure` one cell, `__main__` the
table.
`tenants` is what one tenant notices of another: `slices` says when the other offers how much, and
`tenant_load` is a process full of one tenant's edges.
"""

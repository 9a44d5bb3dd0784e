"""
The benchmark: methods side by side on one thin link, real daemons, a JSON line per round and per generation.

`cells` is the grid as data, `methods` what is compared, `runner` runs, `records` and `store` are the lines,
`report` makes tables of them and of nothing else.
"""

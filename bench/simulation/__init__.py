"""
A discrete-event model of many edges on one cloud, fed by what the benchmark measured.

`model` is the simulation, `fit` reads its parameters from one link's lines, `check` holds its predictions
against links it was not fitted to, `extrapolate` goes on to large models with cited times (`citations`).
`free_sessions` drives the sessions of a cloud that writes by itself in virtual time, over recorded `matches`;
`free_fit` and `free_crowd` are its fit and its large models, `free_running` asks it about one link.
`bench.round_time` is the account of the wire. `docs/simulation.md` has the equations.
"""

"""The mathematics: distributions, lattice, draws, acceptance test, payload coder; numpy and nothing else."""

"""The figures of arXiv 2510.09942 with the bundled pair, measured: `make figures`."""

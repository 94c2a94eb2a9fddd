"""Train a run: detector, members, ensembles."""

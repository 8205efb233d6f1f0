"""How it is run: notebook runner, tasks and engines, keys, the system under study, costs, plan,
ablations."""

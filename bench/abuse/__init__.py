"""Hostile clients and a hostile model server against a running sidecar, with an honest caller beside them.

`modes` and `hostile` are the tables of attacks, by clients and by the model server; `python -m bench.abuse` runs them.
"""

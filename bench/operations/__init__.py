"""What an operator does to a running sidecar, and what callers notice of it: `python -m bench.operations`.

One sidecar of four workers in front of a grpcio model server, its callers an open loop of grpcio's, all on whatever
cores there are: the time of the peers' libraries is in every figure.
"""

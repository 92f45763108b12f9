"""Load for a long time: every answer checked, every call recorded, memory watched. `python -m bench.soak`."""

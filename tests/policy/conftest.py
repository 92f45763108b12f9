from tests.policy.serving import alone, scene
from tests.state.fixtures import directory, engine, on_postgres, on_sqlite, server, store

__all__ = ["alone", "directory", "engine", "on_postgres", "on_sqlite", "scene", "server", "store"]

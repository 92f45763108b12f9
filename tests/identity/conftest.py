from tests.state.fixtures import directory, engine, on_postgres, on_sqlite, server, store

__all__ = ["directory", "engine", "on_postgres", "on_sqlite", "server", "store"]

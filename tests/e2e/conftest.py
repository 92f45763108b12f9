from tests.state.fixtures import server

__all__ = ["server"]

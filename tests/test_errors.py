import pytest

from interceptors.contract import Code
from sidecar.config.faults import ConfigError, Fault
from sidecar.errors import SidecarError, on_the_wire


@pytest.mark.parametrize(
    ("error", "code", "public"),
    [
        (SidecarError("the state directory is gone"), Code.INTERNAL, "internal error"),
        (
            ConfigError([Fault("a", "b", "c")]),
            Code.FAILED_PRECONDITION,
            "the sidecar is not configured for this",
        ),
        (ValueError("hunter2"), Code.INTERNAL, "internal error"),
        (KeyboardInterrupt(), Code.INTERNAL, "internal error"),
    ],
)
def test_a_caller_learns_the_class_and_not_the_text(error: BaseException, code: Code, public: str) -> None:
    assert on_the_wire(error) == (code, public)

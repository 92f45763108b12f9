"""What stands before every block of the product document: the seven names that it uses and does not define.

They are data and functions of whoever would run it, and nothing of the product but its own top module.
"""

from collections.abc import Mapping, Sequence

import langtrain

sensitive_dataset = [{"text": "My parcel is late.", "label": "delivery"}, {"text": "Refund me.", "label": "billing"}]
raw_dataset = [{"text": "Write to jane.doe@example.com or call 555-0142.", "label": "contact"}]
user_id = "user123"
user_data = {"messages": ["My parcel is late."]}


def process_user_data(data: Mapping[str, Sequence[str]]) -> int:
    return len(data["messages"])


def handle_consent_required(user: str) -> str:
    return f"{user} has not consented"


__all__ = [
    "handle_consent_required",
    "langtrain",
    "process_user_data",
    "raw_dataset",
    "sensitive_dataset",
    "user_data",
    "user_id",
]

"""The accounts of the example; they exist only where DEBUG is on."""

from dataclasses import dataclass

PASSWORD = "chatkit-demo"


@dataclass(frozen=True)
class Account:
    username: str
    is_operator: bool
    purpose: str


ACCOUNTS = (
    Account("visitor", is_operator=False, purpose="chats"),
    Account("operator", is_operator=True, purpose="chats and works in the admin"),
)

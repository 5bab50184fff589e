"""The roles that operators give to accounts; apart from the code that gives them, so that it is quick to load."""

from enum import StrEnum


class GrantedRole(StrEnum):
    """The roles that can be granted, as `storage.accounts` names them."""

    HOTEL_MANAGER = "HOTEL_MANAGER"
    OPERATOR = "OPERATOR"

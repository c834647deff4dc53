"""What is read may be forged: it is believed only once it holds what is demanded of it."""


def demand(holds: bool, otherwise: str) -> None:
    """Raise a ValueError that says `otherwise`, unless it `holds`."""
    if not holds:
        raise ValueError(otherwise)

"""A shop that shows products."""

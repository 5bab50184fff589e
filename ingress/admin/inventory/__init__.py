"""A room's nights as their managers see and change them."""

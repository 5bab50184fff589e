"""A hotel's room types as their managers describe them."""

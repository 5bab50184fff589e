"""Hotels as their managers describe them."""

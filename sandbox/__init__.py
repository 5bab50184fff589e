"""Local stand-ins for everything outside the product, and `python -m sandbox` to run the lot."""

"""How often one client may ask, and try passwords: counted in this process, or in Redis for all of them."""

"""The public operations on hotels: search, and a hotel's description."""

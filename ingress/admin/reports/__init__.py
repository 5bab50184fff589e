"""Sales of a hotel, night by night."""

"""What anybody may see of hotels: search, and a hotel's public description."""

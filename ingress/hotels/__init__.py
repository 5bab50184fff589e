"""What anybody may see of hotels before there is a booking."""

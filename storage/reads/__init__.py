"""What the ingress reads: bookings, hotels, rooms, reports, and the data of searches."""

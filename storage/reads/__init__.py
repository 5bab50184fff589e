"""The queries of the ingress: bookings, hotels, rooms, reports, and the data of searches."""

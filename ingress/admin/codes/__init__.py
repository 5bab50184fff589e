"""Promo codes: described by a hotel's managers, used by its guests."""

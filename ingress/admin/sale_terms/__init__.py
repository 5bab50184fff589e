"""A hotel's sale terms (taxes, fees, cancellation policies) and the rate plans of its rooms."""

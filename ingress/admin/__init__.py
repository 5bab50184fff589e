"""The operations of managers on their hotels: descriptions are rows, changes of the nights on sale go through the log."""

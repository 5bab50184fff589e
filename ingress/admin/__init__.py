"""The operations of managers on their hotels: descriptions are rows, changes of what is on sale go through the log."""

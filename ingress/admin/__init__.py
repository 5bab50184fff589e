"""The operations of managers on their hotels: descriptions are rows, changes of nights on sale go through the log."""

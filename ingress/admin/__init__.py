"""What hosts see and change of their hotels: descriptions are rows, what is on sale goes through the log."""

"""Rooms that a hotel takes off sale, and puts on sale again."""

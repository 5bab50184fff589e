"""Search: answered from a copy in memory of what the projections and the hotels say, kept fresh while anybody asks.

Only `copy` and what it imports needs numpy, and is imported when the copy is loaded.
"""

"""Search: answered from an index in memory of the nights and the hotels, which is refreshed while there are searches.

Only `index` and the modules that it imports need numpy; they are imported when the index is loaded.
"""

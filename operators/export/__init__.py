"""`innkeeper export`: the events of the log as files of typed columns, one a day, for analysis."""

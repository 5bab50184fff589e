"""`topics export`: the public record as files of typed columns, one a day, for those who ask questions of the past."""

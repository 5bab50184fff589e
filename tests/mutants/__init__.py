"""`make mutants`: the product with one rule broken at a time, each of which a test must notice."""

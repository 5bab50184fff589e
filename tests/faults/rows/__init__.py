"""The rows of the fault matrix, a module for each kind of fault; `tests.faults.catalogue` has them all."""

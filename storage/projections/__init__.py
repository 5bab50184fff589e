"""The read models' tables: the projections workers write them, a rebuild makes them anew, the ingress reads them."""

"""Exchange rates for eyes only: prices are shown in other currencies and compared across them, never charged so."""

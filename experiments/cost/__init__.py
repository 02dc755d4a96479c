"""Where should a model run, and what is the monthly bill: contenders sized, played and compared."""

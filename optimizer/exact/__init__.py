"""The certified optimum of problem (12): fronts of layers, merged."""

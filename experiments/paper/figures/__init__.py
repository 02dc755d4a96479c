"""The figures and tables, one module or folder each, with its settings in configs/paper/."""

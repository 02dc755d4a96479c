"""Experiments over the other packages: YAML files in, tables, figures and a finding out."""

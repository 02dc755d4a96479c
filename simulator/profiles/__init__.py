"""Platform profiles: their constants, and the YAML files that hold them."""

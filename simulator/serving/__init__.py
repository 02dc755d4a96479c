"""A deployment plan played: layers, communication methods, cluster."""

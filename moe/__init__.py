"""The workload: Mixture-of-Experts models, text, and the routing of its tokens to experts."""

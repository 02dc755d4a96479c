"""What others deploy: the paper's baselines, and solvers that leave a decision out."""

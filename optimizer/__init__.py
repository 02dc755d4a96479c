"""What to deploy: expert popularity, the cost model (Eq. 3-11), and solvers of the deployment problem."""

"""One account of a Lambda endpoint: clients, calls, deployments, and their removal."""

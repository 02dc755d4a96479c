"""Code that runs inside functions: it imports nothing of this project but its own kind; numpy and boto3 lazily."""

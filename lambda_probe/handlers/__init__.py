"""Code that runs inside functions: no imports beyond the standard library, numpy and boto3, and those lazily."""

"""Code that runs inside functions: no imports beyond the standard library, numpy, boto3 and each other."""

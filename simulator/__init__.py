"""The platform and what runs on it: a SimPy model of AWS Lambda, S3 and a CPU cluster."""

"""AWS as simulated: network, storage, instances, calls, billing."""

"""What tries to refute the promises: real processes under faults, and a simulator of the pure core."""

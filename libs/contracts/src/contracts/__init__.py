"""What crosses a process boundary: changes, outcomes, topics."""

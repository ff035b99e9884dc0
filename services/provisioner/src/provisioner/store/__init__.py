"""All SQL of the provisioner: each function runs a fixed number of statements, whatever the size of the batch."""

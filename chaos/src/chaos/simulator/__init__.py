"""The pure core under faults that are simulated, in virtual time: one seed is one run, the same each time.

The decisions are the provisioner's own (`provisioner.batch`); the log, the transactional store and the processes around
them are small models, so that thousands of runs fit into a minute.
"""

"""The recipes and their stages: teacher, causal initialisation, distribution matching.

The same code trains the pocket model on one CPU core and one of Wan's size on a cluster:
`causvid.commands.train` is the command, `recipes` has the settings, `run` the stages.
"""

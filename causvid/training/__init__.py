"""The recipe: teacher, causal initialisation, distribution matching. Nothing imports this package.

The same code trains the pocket model on one CPU core and a full-size one on a cluster; see
`causvid.commands.train` for the command and `stages` for the settings.
"""

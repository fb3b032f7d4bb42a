"""The recipes: teacher, causal initialisation, distribution matching, for the pocket model and Wan.

    config, recipes, changes         settings of every stage, as data; they load no torch
    run, launch, trainer             a run's folder, what starts each stage, the loop around it
    teacher, ode, forcing, dmd       the stages; also codec, decoder, clips, judge
    losses, rollout, data            what stages are made of
    plan                             what a recipe costs

`causvid.commands.train` is the command.
"""

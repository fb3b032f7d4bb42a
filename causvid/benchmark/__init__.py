"""Speed, memory and operator launches; `causvid.commands.benchmark` is the command."""

"""How a chunk is made: geometry, noise schedule, prompts, generator and stream."""

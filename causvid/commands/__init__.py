"""Commands that belong to no other module; see `causvid.__main__`."""

"""The Space's entry: `python app.py` is `causvid serve`. Settings are environment variables."""

import sys

from causvid.commands.serve import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        print(f"app.py: {error}", file=sys.stderr)
        sys.exit(2)

"""`python -m preheat.cli`, for where the script is not installed."""

from preheat.cli import main

if __name__ == "__main__":
    main()

"""`python -m operators` is the command `innkeeper`."""

from operators.cli.main import main

if __name__ == "__main__":
    main()

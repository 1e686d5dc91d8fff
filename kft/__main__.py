"""``python -m kft``: the same as the command ``kft``."""

from kft.cli.main import main

if __name__ == "__main__":
    main()

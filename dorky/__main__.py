"""``python -m dorky``."""

from dorky.cli.main import main

if __name__ == "__main__":
    main()

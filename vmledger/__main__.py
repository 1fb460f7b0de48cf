"""``python -m vmledger``: the same program as the ``vmledger`` command."""

from vmledger.main import main

if __name__ == "__main__":
    main()

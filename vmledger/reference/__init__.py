"""Reference pages that are written from the code, so that they cannot say something else.

``docs/generated.toml`` names each page and the module that writes it to standard output;
``python -m vmledger.reference`` writes them all.
"""

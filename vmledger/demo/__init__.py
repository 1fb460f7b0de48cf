"""The demonstration: three real servers, one dies, calls come in, it returns.

`run.run_demo` is what ``vmledger demo`` calls. Every figure of its report is measured from the
running servers; nothing is assumed.
"""

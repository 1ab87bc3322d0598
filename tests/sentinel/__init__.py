"""Looks for client secrets and keys in everything that a run of the tests leaves behind.

``taps`` observe the suite's traffic, ``stores`` reads database and cache, ``records`` keeps on disk what they
see, ``search`` goes through it, and ``plugin`` joins them to pytest.
"""

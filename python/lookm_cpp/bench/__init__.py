"""Measures what compression costs and saves, for ``lookm bench`` and for ``benchmarks``.

The order of the work: ``settings`` (what was asked for), ``models`` and ``workload`` (what is
measured), ``schedule`` (which of it fits, and how long it takes), ``run_worker`` and ``worker`` (a
process for each model and length), ``contenders`` and ``alternation`` (what is timed, and how),
``result_rows``, ``report`` and ``plots`` (what people read).
"""

"""Fuzzers: damaged files of our own, bad command lines, damaged row shards.

    python -m tests.fuzz [--cases=10000] [--seed=0] [--only=FUZZER] [--case=N]

Each case ends well or in one sentence.  All else is a fault: a stack, a sentence of more than 2 kB, a dead process, a
case without an end.  A fault prints what to type to see it again: a case follows from fuzzer, seed and number alone.
Cases run in child processes, a batch in each.
"""

"""Benchmark of training objectives on problems whose exact answer is known."""

"""The parts of ``scripts.benchmark``: measuring, the workloads, the PyTorch peers, the report."""

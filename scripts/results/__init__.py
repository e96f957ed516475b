"""The parts of ``scripts.results``: the digits example, the references, the pages."""

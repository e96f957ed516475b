"""The parts of ``scripts.results``: the main job, the published numbers, the pages."""

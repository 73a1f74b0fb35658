"""fleetbench: benchmark LLM inference across a GPU fleet."""

__version__ = "0.1.0"

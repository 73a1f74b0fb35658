"""Measures one running engine: load, power, the engine's own metrics, the host, quality."""

"""A small labelled world of invented animals, made on the spot: to try every command without a download."""

from birdemb.synthesis.world import World, make_world

__all__ = ["World", "make_world"]

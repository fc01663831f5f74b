"""Caesarion's shared library: the values and rules of sessions, sandboxes and outputs.

Standard library only, no clock, environment or network; whatever touches those is in `caesarion.adapters`.
"""

"""Meaning: bytes, frames and the state that they add up to.  Pure: no os, no trio, no clock, no randomness."""

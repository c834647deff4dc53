"""Caches that people already have, made warmable: one file per library, imported when used."""

"""Probes: one small module for each family of things that is measured. None judges, notifies or reads settings."""

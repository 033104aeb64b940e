"""Recipes: how each family is trained. Schedules, densification, stages, regularisers."""

from moegs_ns.recipes.base import Recipe, RecipeConfig

__all__ = ["Recipe", "RecipeConfig"]

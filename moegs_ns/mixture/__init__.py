"""Mixtures of experts: blending, recipe, pruning, fusion, distillation, responsibilities."""

"""Operations on experts and mixtures: plain functions that return new objects and reports."""

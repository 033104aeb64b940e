"""Operations on mixtures: plain functions that return new objects and reports."""

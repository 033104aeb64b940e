"""Operations on experts and mixtures: plain functions that return a report."""

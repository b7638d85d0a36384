"""The paper's data sets from their official archives."""

"""The ways to serve of figure 2, by their names in its table, and the paper's number."""

LAMBDA, BY_TOKEN = "Lambda, 3008 MB", "Lambda, 3008 MB, token by token"
PAPER_TOKENS_PER_S = 22.9

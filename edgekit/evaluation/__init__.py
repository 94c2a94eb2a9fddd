"""How good the answers are: metrics, predictions files, figures and the report."""

"""Run folders to one self-contained HTML page. The only door to plotly. Loads without torch."""

from fastslow.reports.page import write_report

__all__ = ["write_report"]

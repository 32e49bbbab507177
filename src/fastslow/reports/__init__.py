"""Reports of runs: one self-contained HTML page, or tables. The only door to plotly.

Loads without torch.
"""

from fastslow.reports.page import write_report
from fastslow.reports.text_tables import report_table

__all__ = ["report_table", "write_report"]

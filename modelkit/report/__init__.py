"""Measurements for people: Markdown tables, pictures, and one HTML file that has it all."""

from modelkit.report.tables import box_table, table

__all__ = ["box_table", "table"]

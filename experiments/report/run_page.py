"""The page of a run, whatever kind of run it is."""

from __future__ import annotations

from experiments.report.experiment_page import experiment_page
from experiments.report.page import Page
from experiments.report.reading import Run
from experiments.report.tables_page import tables_page
from experiments.report.traffic_page import traffic_page
from experiments.report.tuning_page import tuning_page

PAGES = {
    "experiment": experiment_page,
    "traffic": traffic_page,
    "tuning": tuning_page,
    "tables": tables_page,
}


def page_of(run: Run) -> Page:
    """The run's page. Raises InputError for files that are broken."""
    return PAGES[run.kind](run)

from bursar.service.simulation.faults import FAULT_MEANS, FaultKind
from bursar.service.simulation.page import PAGE, simulation_page


def test_the_page_of_the_simulation_is_its_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == simulation_page(), "run `python -m bursar.service.simulation.page`"


def test_every_fault_is_explained() -> None:
    assert set(FAULT_MEANS) == set(FaultKind)

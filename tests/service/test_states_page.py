from bursar.service.states_page import PAGE, states_page


def test_the_page_of_states_is_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == states_page(), "run `python -m bursar.service.states_page`"

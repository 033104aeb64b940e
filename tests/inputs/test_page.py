"""docs/inputs.md lists the inputs that are tried, with the sentences that they end in."""

from inputs.table import ALL, PAGE, read_page

CASES = [case for kind in ALL.values() for case in kind]


def test_the_page_has_the_inputs_that_are_tried():
    page = read_page()
    assert {key: status for key, (status, _) in page.items()} == {
        (case.name, case.command): str(case.status) for case in CASES
    }
    assert list(page) == [(case.name, case.command) for case in CASES]
    lines = PAGE.read_text().splitlines()
    assert f"{len(CASES)} inputs." in lines and len(CASES) >= 420
    assert [line[3:] for line in lines if line.startswith("## ")] == list(ALL)


def test_every_refusal_has_a_sentence():
    """What another package says by itself is none."""
    for (name, _), (status, said) in read_page().items():
        assert status != "1" or len(said.split()) >= 5, name
        assert "Errno" not in said.partition("(")[0], name

from __future__ import annotations

from trainkit.metrics.versions import Versions


def test_a_name_has_another_number_whenever_it_gets_a_value() -> None:
    versions = Versions()
    assert versions.of("x") == 0
    seen = []
    for _ in range(3):
        versions.note("x", versions.next())
        seen.append(versions.of("x"))
    assert len({0, *seen}) == 4
    assert versions.of("x") == seen[-1]
    assert versions.of("y") == 0


def test_values_of_batches_are_numbered_when_somebody_asks() -> None:
    versions = Versions()
    versions.stepped["x"] = 1.0
    first = versions.of("x")
    assert versions.of("x") == first != 0
    versions.stepped["x"] = 1.0
    assert versions.of("x") != first


def test_one_number_may_be_noted_twice_for_the_same_value() -> None:
    versions = Versions()
    number = versions.next()
    versions.note("x", number)
    versions.stepped["x"] = 1.0
    versions.note("x", number)
    assert versions.of("x") == number


def test_after_clear_no_number_comes_again() -> None:
    versions = Versions()
    versions.note("x", versions.next())
    before = versions.of("x")
    versions.clear()
    assert versions.of("x") == 0
    assert versions.next() > before


def test_state_is_plain_and_goes_into_a_fresh_one_in_place() -> None:
    versions, fresh = Versions(), Versions()
    versions.note("x", versions.next())
    versions.stepped["y"] = 1.0
    state, stepped = versions.state_dict(), fresh.stepped
    assert state == {"numbers": {"x": 1}, "newest": 1, "stepped": ["y"]}
    fresh.load_state_dict(state)
    assert fresh.state_dict() == state
    assert fresh.stepped is stepped
    assert (fresh.of("x"), fresh.of("y")) == (1, 2)

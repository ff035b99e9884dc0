from scim_gateway.recent import Recent


def test_a_key_is_remembered_for_its_time_and_no_longer():
    now = 100.0
    recent = Recent[str](10, 5, lambda: now)
    recent.add("a")
    now = 109.9
    assert "a" in recent
    now = 110.0
    assert "a" not in recent


def test_only_the_keys_that_were_added_last_are_remembered():
    recent = Recent[str](10, 2)
    for key in ("a", "b", "a", "c"):
        recent.add(key)
    assert ["a" in recent, "b" in recent, "c" in recent] == [True, False, True]
